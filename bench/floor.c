/* The floor: what a relay costs that does nothing else.
 *
 *   floor --port 7443 --ca ca.pem --cert rallypoint.pem --key rallypoint.key
 *
 * One thread, one epoll, OpenSSL on the socket. It speaks the client's part of docs/link-protocol.md to clients that mean
 * well: TLS 1.3 with certificates of the authority, HELLO, WELCOME, JOIN, JOINED, LEAVE, PING, PONG, MEDIA, and a bounded
 * queue for who does not read. There are no access rules, no windows, no rates, no freshness and no status page, and its JSON is
 * found by searching: it is a yardstick and never a server.
 *
 * To see that the benchmark notices a faulty server, build it with -DLOSE=1000, -DDOUBLE=1000, -DSPOIL=1000 (one delivery in a
 * thousand is left out, sent twice, changed) or -DECHO (talkers hear themselves). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define QUEUE 256      /* frames that may wait for one link */
#define JOINS 8        /* streams of one link */
#define TABLE 4096     /* buckets of streams */
#define SCRATCH 131072 /* one whole frame and more */
#define KEEPALIVE_S 5.0
#define DEAD_S 1.5

enum { HELLO = 1, WELCOME, JOIN, JOINED, LEAVE, PING, PONG, BYE = 9, MEDIA = 0x10 };

struct frame { /* a frame that waits for several links is kept once */
    int refs;
    bool control;
    size_t size;
    uint8_t bytes[];
};

struct guest {
    int fd;
    SSL *ssl;
    bool ready, greeted, blocked, dead;
    uint8_t *in;
    size_t in_size;
    struct frame **queue; /* a ring of QUEUE + 16, made when first needed */
    unsigned head, waiting;
    struct stream *joined[JOINS];
    bool talks[JOINS];
    double heard, asked;
    struct guest *next, *before;
};

struct stream {
    uint64_t key;
    struct guest **listeners;
    int count, room;
    struct stream *next;
};

static struct stream *table[TABLE];
static struct guest *guests, *doomed[65536];
static int doomed_count, ep;
static unsigned long long dropped;

static double clock_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void release(struct frame *f) {
    if (!--f->refs) free(f);
}

static void doom(struct guest *g) {
    if (g->dead || doomed_count == 65536) return;
    g->dead = true;
    doomed[doomed_count++] = g;
}

static void want(struct guest *g, bool write) {
    struct epoll_event e = {.events = write ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = g};
    if (g->blocked == write) return;
    g->blocked = write;
    epoll_ctl(ep, EPOLL_CTL_MOD, g->fd, &e);
}

static void enqueue(struct guest *g, struct frame *f) {
    if (!g->queue) g->queue = calloc(QUEUE + 16, sizeof *g->queue);
    if (g->waiting >= QUEUE) {
        /* the first may be half written: OpenSSL wants it again. The oldest ordinary frame behind it goes. */
        unsigned at = 1;
        while (at < g->waiting && g->queue[(g->head + at) % (QUEUE + 16)]->control) at++;
        if (at == g->waiting) {
            doom(g); /* it asks and does not read the answers */
            return;
        }
        release(g->queue[(g->head + at) % (QUEUE + 16)]);
        dropped++;
        for (; at + 1 < g->waiting; at++)
            g->queue[(g->head + at) % (QUEUE + 16)] = g->queue[(g->head + at + 1) % (QUEUE + 16)];
        g->waiting--;
    }
    f->refs++;
    g->queue[(g->head + g->waiting++) % (QUEUE + 16)] = f;
    want(g, true);
}

static struct frame *keep(const uint8_t *bytes, size_t size, bool control) {
    struct frame *f = malloc(sizeof *f + size);
    f->refs = 0;
    f->control = control;
    f->size = size;
    memcpy(f->bytes, bytes, size);
    return f;
}

/* True: sent, or the link is over. False: it must wait. */
static bool write_now(struct guest *g, const uint8_t *bytes, size_t size) {
    int n = SSL_write(g->ssl, bytes, (int)size);
    if (n > 0) return true;
    int why = SSL_get_error(g->ssl, n);
    ERR_clear_error();
    if (why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ) return false;
    doom(g);
    return true;
}

static void flush(struct guest *g) {
    while (g->waiting) {
        struct frame *f = g->queue[g->head];
        if (!write_now(g, f->bytes, f->size) || g->dead) return;
        release(f);
        g->head = (g->head + 1) % (QUEUE + 16);
        g->waiting--;
    }
    want(g, false);
}

static void say(struct guest *g, int type, const void *body, size_t size) {
    uint8_t bytes[600] = {(uint8_t)(size >> 8), (uint8_t)size, (uint8_t)type};
    if (g->dead) return;
    memcpy(bytes + 3, body, size);
    if (g->waiting || !write_now(g, bytes, 3 + size)) enqueue(g, keep(bytes, 3 + size, true));
}

static void fan_out(struct guest *from, struct stream *s, const uint8_t *bytes, size_t size) {
    struct frame *kept = NULL;
    for (int i = 0; i < s->count; i++) {
        struct guest *g = s->listeners[i];
        int times = 1;
#ifndef ECHO
        if (g == from) continue;
#endif
        if (g->dead) continue;
#if defined LOSE || defined DOUBLE || defined SPOIL
        static unsigned long long delivery;
        delivery++;
#endif
#ifdef LOSE
        if (delivery % LOSE == 0) times = 0;
#endif
#ifdef DOUBLE
        if (delivery % DOUBLE == 0) times = 2;
#endif
#ifdef SPOIL
        uint8_t spoilt[70000];
        if (delivery % SPOIL == 0) {
            memcpy(spoilt, bytes, size);
            spoilt[size - 1] ^= 1;
            if (g->waiting || !write_now(g, spoilt, size)) enqueue(g, keep(spoilt, size, false));
            continue;
        }
#endif
        for (; times; times--) {
            if (!g->waiting && write_now(g, bytes, size)) continue;
            if (!kept) kept = keep(bytes, size, false);
            enqueue(g, kept);
        }
    }
    if (kept && !kept->refs) free(kept);
}

static struct stream *stream_of(uint64_t key, bool make) {
    struct stream **at = &table[key % TABLE];
    while (*at && (*at)->key != key) at = &(*at)->next;
    if (!*at && make) {
        *at = calloc(1, sizeof **at);
        (*at)->key = key;
    }
    return *at;
}

static void stop_listening(struct guest *g, struct stream *s) {
    for (int i = 0; i < s->count; i++)
        if (s->listeners[i] == g) {
            s->listeners[i] = s->listeners[--s->count];
            return;
        }
}

static uint64_t be(const uint8_t *p, int bytes) {
    uint64_t v = 0;
    while (bytes--) v = v << 8 | *p++;
    return v;
}

/* What stands behind `name` in JSON, or NULL. */
static const char *field(const char *json, const char *name) {
    const char *at = strstr(json, name);
    if (!at) return NULL;
    at += strlen(name);
    while (*at == ' ' || *at == ':') at++;
    return at;
}

static uint64_t key_of(const char *json) {
    uint8_t hash[SHA256_DIGEST_LENGTH];
    const char *name = field(json, "\"stream\""), *end = name && *name == '"' ? strchr(name + 1, '"') : NULL;
    if (!end) return 0;
    SHA256((const uint8_t *)name + 1, (size_t)(end - name - 1), hash);
    return be(hash, 8);
}

static void join(struct guest *g, const char *json) {
    uint64_t key = key_of(json);
    const char *listen = field(json, "\"listen\""), *talk = field(json, "\"talk\""), *txn = field(json, "\"txn\"");
    const char *name = field(json, "\"stream\"");
    struct stream *s = stream_of(key, true);
    char body[500];
    int at = 0;
    while (at < JOINS && g->joined[at] && g->joined[at] != s) at++;
    if (at == JOINS || !name) return doom(g);
    if (g->joined[at]) stop_listening(g, s);
    g->joined[at] = s;
    g->talks[at] = !talk || *talk != 'f';
    if (!listen || *listen != 'f') {
        if (s->count == s->room) s->listeners = realloc(s->listeners, (size_t)(s->room = 2 * s->room + 8) * sizeof *s->listeners);
        s->listeners[s->count++] = g;
    }
    int n = snprintf(body, sizeof body, "{\"txn\":%lu,\"stream\":%.*s,\"key\":\"%016llx\"}", txn ? strtoul(txn, NULL, 10) : 0,
                     (int)(strchr(name + 1, '"') + 1 - name), name, (unsigned long long)key);
    say(g, JOINED, body, (size_t)n < sizeof body ? (size_t)n : sizeof body - 1);
}

static void leave(struct guest *g, uint64_t key) {
    for (int at = 0; at < JOINS; at++)
        if (g->joined[at] && g->joined[at]->key == key) {
            stop_listening(g, g->joined[at]);
            g->joined[at] = NULL;
        }
}

static void control(struct guest *g, int type, const uint8_t *body, size_t size) {
    static const char welcome[] =
        "{\"version\":1,\"id\":\"\",\"name\":\"floor\",\"keepalive\":5.0,\"limits\":{\"media_bytes\":4096,\"joins\":8}}";
    char json[4097];
    if (size > 4096 || (!g->greeted && type != HELLO)) return doom(g);
    memcpy(json, body, size);
    json[size] = 0;
    switch (type) {
    case HELLO:
        g->greeted = true;
        say(g, WELCOME, welcome, sizeof welcome - 1);
        break;
    case JOIN: join(g, json); break;
    case LEAVE: leave(g, key_of(json)); break;
    case PING: say(g, PONG, body, 8); break;
    case BYE: doom(g); break;
    default: break;
    }
}

static void media(struct guest *g, const uint8_t *frame, size_t size) {
    if (size < 24) return doom(g);
    uint64_t key = be(frame + 4, 8);
    for (int at = 0; at < JOINS; at++)
        if (g->joined[at] && g->joined[at]->key == key && g->talks[at]) {
            fan_out(g, g->joined[at], frame, size);
            return;
        }
}

static void readable(struct guest *g) {
    static uint8_t scratch[SCRATCH];
    for (int turn = 0; turn < 16 && !g->dead; turn++) {
        size_t size = g->in_size, at = 0;
        if (size) memcpy(scratch, g->in, size);
        int n = SSL_read(g->ssl, scratch + size, (int)(SCRATCH - size));
        if (n <= 0) {
            int why = SSL_get_error(g->ssl, n);
            ERR_clear_error();
            if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) doom(g);
            return;
        }
        g->heard = clock_s();
        g->asked = 0;
        size += (size_t)n;
        while (size - at >= 3 && !g->dead) {
            size_t body = (size_t)be(scratch + at, 2);
            if (size - at < 3 + body) break;
            if (scratch[at + 2] == MEDIA) media(g, scratch + at, 3 + body);
            else control(g, scratch[at + 2], scratch + at + 3, body);
            at += 3 + body;
        }
        free(g->in);
        g->in = NULL;
        if ((g->in_size = size - at)) memcpy(g->in = malloc(g->in_size), scratch + at, g->in_size);
    }
}

static void bury(struct guest *g) {
    for (int at = 0; at < JOINS; at++)
        if (g->joined[at]) stop_listening(g, g->joined[at]);
    while (g->waiting) {
        release(g->queue[g->head]);
        g->head = (g->head + 1) % (QUEUE + 16);
        g->waiting--;
    }
    SSL_shutdown(g->ssl);
    ERR_clear_error();
    SSL_free(g->ssl);
    close(g->fd);
    if (g->before) g->before->next = g->next;
    else guests = g->next;
    if (g->next) g->next->before = g->before;
    free(g->queue);
    free(g->in);
    free(g);
}

static void shake(struct guest *g) {
    int n = SSL_do_handshake(g->ssl);
    if (n == 1) {
        g->ready = true;
        want(g, false);
        readable(g);
        return;
    }
    int why = SSL_get_error(g->ssl, n);
    ERR_clear_error();
    if (why == SSL_ERROR_WANT_WRITE) want(g, true);
    else if (why == SSL_ERROR_WANT_READ) want(g, false);
    else doom(g);
}

static void take_guests(int listener, SSL_CTX *context) {
    int one = 1;
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct guest *g = calloc(1, sizeof *g);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = g};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        g->fd = fd;
        g->ssl = SSL_new(context);
        SSL_set_fd(g->ssl, fd);
        SSL_set_accept_state(g->ssl);
        g->heard = clock_s();
        if ((g->next = guests)) guests->before = g;
        guests = g;
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    }
}

static void look_at_all(double now) {
    for (struct guest *g = guests; g; g = g->next) {
        if (!g->greeted) {
            if (now - g->heard > 60) doom(g);
        } else if (g->asked ? now - g->asked > DEAD_S : now - g->heard > KEEPALIVE_S + .3) {
            if (g->asked) doom(g);
            else say(g, PING, "bench\0\0\0", 8), g->asked = now;
        }
    }
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *in, unsigned in_size, void *unused) {
    (void)ssl, (void)unused;
    return SSL_select_next_proto((unsigned char **)out, out_size, (const unsigned char *)"\x0aice-link/1", 11, in, in_size) ==
                   OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void die(const char *what) {
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

int main(int argc, char **argv) {
    const char *ca = NULL, *cert = NULL, *key = NULL;
    int port = 0, one = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--port")) port = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--ca")) ca = argv[i + 1];
        else if (!strcmp(argv[i], "--cert")) cert = argv[i + 1];
        else if (!strcmp(argv[i], "--key")) key = argv[i + 1];
    }
    if (!port || !ca || !cert || !key) {
        fprintf(stderr, "floor: --port --ca --cert --key are needed\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_certificate_chain_file(context, cert) != 1 || SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(context, ca, NULL) != 1)
        die("certificates");
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_alpn_select_cb(context, choose_alpn, NULL);

    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) die("listen");
    ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[256], e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
    for (double looked = 0;;) {
        int n = epoll_wait(ep, events, 256, 500);
        for (int i = 0; i < n; i++) {
            struct guest *g = events[i].data.ptr;
            if (!g) take_guests(listener, context);
            else if (g->dead) continue;
            else if (!g->ready) shake(g);
            else {
                if (events[i].events & EPOLLOUT) flush(g);
                if (!g->dead && events[i].events & ~(uint32_t)EPOLLOUT) readable(g);
            }
        }
        double now = clock_s();
        if (now - looked > .5) {
            look_at_all(now);
            looked = now;
        }
        for (int i = 0; i < doomed_count; i++) bury(doomed[i]);
        doomed_count = 0;
    }
}
