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

    int ice_fan(void *write, void *clear, ice_lane **lanes, int count, ice_lane *sender,
                const char *frame, int size, int *behind);
    int ice_write(void *write, void *clear, void *ssl, const char *data, int size);
    int ice_drain(void *read, void *get_error, void *clear, void *ssl, char *buffer, int room, int *why);
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

    typedef int (*write_function)(void *, const void *, int);
    typedef int (*read_function)(void *, void *, int);
    typedef int (*error_function)(const void *, int);
    typedef void (*clear_function)(void);

    /* One frame to every open lane but the sender's. The others, and those where OpenSSL did not take it all, are
       named in `behind`; how many they are is returned. */
    static int ice_fan(void *write, void *clear, ice_lane **lanes, int count, ice_lane *sender,
                       const char *frame, int size, int *behind)
    {
        int at, late = 0;
        for (at = 0; at < count; at++) {
            ice_lane *lane = lanes[at];
            if (lane == sender)
                continue;
            if (lane->open && lane->ssl) {
                lane->carried = 1;
                if (((write_function)write)(lane->ssl, frame, size) == size) {
                    lane->frames++;
                    lane->bytes += size;
                    continue;
                }
                ((clear_function)clear)();
            }
            behind[late++] = at;
        }
        return late;
    }

    /* All or nothing: whether OpenSSL took everything at once. */
    static int ice_write(void *write, void *clear, void *ssl, const char *data, int size)
    {
        if (((write_function)write)(ssl, data, size) == size)
            return 1;
        ((clear_function)clear)();
        return 0;
    }

    /* Read records until the socket is empty or less than a whole record has room. `why` is SSL_get_error of the
       last read, 0 when the room ended it. */
    static int ice_drain(void *read, void *get_error, void *clear, void *ssl, char *buffer, int room, int *why)
    {
        int total = 0;
        *why = 0;
        while (room - total >= 16384) {
            int got = ((read_function)read)(ssl, buffer + total, room - total);
            if (got <= 0) {
                *why = ((error_function)get_error)(ssl, got);
                ((clear_function)clear)();
                break;
            }
            total += got;
        }
        return total;
    }
    """,
    extra_compile_args=["-O2"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
