"""The compiled half of :mod:`ice.net.fanout`: built by ``pip install`` where a C compiler is, done without where none is.

It links against nothing. OpenSSL's functions come as addresses from the OpenSSL that pyOpenSSL already uses, so that both
speak of the same TLS objects. cffi lets go of the GIL during a call; no second thread touches these objects.
"""

import cffi

ffibuilder = cffi.FFI()

ffibuilder.cdef(
    """
    typedef struct {
        void *ssl;                    /* NULL once the connection is gone */
        int open;                     /* media may be written directly */
        int carried;                  /* media was written since somebody looked */
        unsigned long long frames;
        unsigned long long bytes;
    } ice_lane;

    typedef struct {
        ice_lane **lanes;
        int count;
        int *behind;                  /* room for `count` */
    } ice_recipients;

    char ice_room[65536];             /* what was read last */

    void ice_use(void *write, void *read, void *get_error, void *clear);
    int ice_fan(ice_recipients *to, ice_lane *sender, const char *frame, int size);
    int ice_write(void *ssl, const char *data, int size);
    int ice_drain(void *ssl);
    """
)

ffibuilder.set_source(
    "ice.net._fanout",
    """
    typedef struct {
        void *ssl;
        int open;
        int carried;
        unsigned long long frames;
        unsigned long long bytes;
    } ice_lane;

    typedef struct {
        ice_lane **lanes;
        int count;
        int *behind;
    } ice_recipients;

    static int (*write_)(void *, const void *, int);
    static int (*read_)(void *, void *, int);
    static int (*get_error_)(const void *, int);
    static void (*clear_)(void);

    static char ice_room[65536];

    /* Whose OpenSSL: told once, before anything else. */
    static void ice_use(void *write, void *read, void *get_error, void *clear)
    {
        write_ = (int (*)(void *, const void *, int))write;
        read_ = (int (*)(void *, void *, int))read;
        get_error_ = (int (*)(const void *, int))get_error;
        clear_ = (void (*)(void))clear;
    }

    /* One frame to every open lane but the sender's. The others, and those where OpenSSL did not take it all, are
       named in `behind`; how many they are is returned. */
    static int ice_fan(ice_recipients *to, ice_lane *sender, const char *frame, int size)
    {
        int at, late = 0;
        for (at = 0; at < to->count; at++) {
            ice_lane *lane = to->lanes[at];
            if (lane == sender)
                continue;
            if (lane->open && lane->ssl) {
                lane->carried = 1;
                if (write_(lane->ssl, frame, size) == size) {
                    lane->frames++;
                    lane->bytes += size;
                    continue;
                }
                clear_();
            }
            to->behind[late++] = at;
        }
        return late;
    }

    /* All or nothing: whether OpenSSL took everything at once. */
    static int ice_write(void *ssl, const char *data, int size)
    {
        if (write_(ssl, data, size) == size)
            return 1;
        clear_();
        return 0;
    }

    /* Read records into `ice_room` until the socket is empty or less than a whole record has room. The bytes are in the
       lower 20 bits of what is returned, SSL_get_error of the last read above them: 0 when the room ended it. */
    static int ice_drain(void *ssl)
    {
        int total = 0, why = 0;
        while ((int)sizeof ice_room - total >= 16384) {
            int got = read_(ssl, ice_room + total, (int)sizeof ice_room - total);
            if (got <= 0) {
                why = get_error_(ssl, got);
                /* SSL_ERROR_SSL with nothing read: why stays in OpenSSL's queue for the caller, who reads again at once and says it. */
                if (why != 1 || total)
                    clear_();
                break;
            }
            total += got;
        }
        return why << 20 | total;
    }
    """,
    extra_compile_args=["-O2"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
