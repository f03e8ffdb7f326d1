/* Sockets, TLS and the loop: one thread, one epoll, thousands of links. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define TICK (100 * MS)
#define RETRY (150 * MS)
#define LATE (5 * MS)
#define BATCH 64 /* events between two looks at the clock: nobody waits for a thousand deliveries to send */
#define SCRATCH (1 << 18)
#define OUT_MOST (1 << 20) /* who is so far behind has a server that does not read */

struct link *links;
struct talker *talkers;
int talker_count, joined_count, hearing_count, retries;
uint64_t late_sends, due_sends, late_most;

static SSL_CTX *context;
static int ep, under_way, at_once_most;
static int *queue, queue_head, queue_size; /* links that wait to connect, in the order of their time */
static uint64_t tick_at, talk_from, talk_period, talk_next;
static uint64_t *phase; /* when in a period each talker speaks, in order; parts of 2^32 */
static unsigned char *known;
static int known_size;

static void die(const char *what) {
    fprintf(stderr, "loadgen: %s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(2);
}

/* The chain is verified once; whoever shows the same certificate again is the same server, which spares the generator
 * half a storm's arithmetic. The signature of each handshake is verified as ever. */
static int verify(X509_STORE_CTX *store, void *unused) {
    (void)unused;
    unsigned char *der = NULL;
    int size = i2d_X509(X509_STORE_CTX_get0_cert(store), &der), good;
    if (known && size == known_size && !memcmp(known, der, (size_t)size)) {
        OPENSSL_free(der);
        return 1;
    }
    good = X509_verify_cert(store);
    if (good == 1) {
        OPENSSL_free(known);
        known = der;
        known_size = size;
    } else
        OPENSSL_free(der);
    return good;
}

static int by_phase(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

void links_open(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    context = SSL_CTX_new(TLS_client_method());
    if (!context || !SSL_CTX_load_verify_locations(context, opt.ca, NULL) ||
        SSL_CTX_use_certificate_chain_file(context, opt.cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, opt.key, SSL_FILETYPE_PEM) != 1)
        die("certificates");
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(context, verify, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(context, 1); /* header and body of a record in one system call */
    if (!strcmp(opt.mode, "ice")) SSL_CTX_set_alpn_protos(context, (const unsigned char *)"\x0aice-link/1", 11);
    ep = epoll_create1(EPOLL_CLOEXEC);
    links = calloc((size_t)opt.links, sizeof *links);
    queue = calloc((size_t)opt.links, sizeof *queue);
    talker_count = opt.streams * opt.talkers;
    talkers = calloc((size_t)talker_count, sizeof *talkers);
    phase = calloc((size_t)talker_count, sizeof *phase);
    for (int i = 0; i < opt.links; i++) {
        struct link *l = &links[i];
        l->fd = -1;
        l->id = i;
        l->stream = i % opt.streams;
        l->talker = i / opt.streams < opt.talkers ? l->stream * opt.talkers + i / opt.streams : -1;
        l->tracks = calloc((size_t)opt.talkers, sizeof *l->tracks);
        if (l->talker >= 0) talkers[l->talker].link = l;
    }
    for (int i = 0; i < talker_count; i++) /* the golden ratio scatters them and is the same in every run */
        phase[i] = (uint64_t)(uint32_t)i * 2654435769u & UINT32_MAX;
    qsort(phase, (size_t)talker_count, sizeof *phase, by_phase);
}

static void want(struct link *l, uint32_t events) {
    if (l->stalled || l->events == events) return;
    struct epoll_event e = {.events = events, .data.ptr = l};
    epoll_ctl(ep, EPOLL_CTL_MOD, l->fd, &e);
    l->events = events;
}

static void enqueue(struct link *l, uint64_t at) {
    l->state = WAITING;
    l->retry_at = at;
    queue[(queue_head + queue_size++) % opt.links] = l->id;
}

static void shut(struct link *l) {
    struct linger reset = {1, 0}; /* no TIME_WAIT: thousands of links come and go in one benchmark */
    if (l->fd < 0) return;
    setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(l->fd);
    SSL_free(l->ssl);
    l->ssl = NULL;
    l->fd = -1;
    l->in_size = l->out_size = 0;
    l->events = 0;
    l->silent = false;
    l->asked_at = l->media_at = l->pinged_at = 0;
    if (l->state == JOINED) joined_count--;
    if (l->state >= CONNECTING && l->state <= GREETING) under_way--;
}

static void over(struct link *l, const char *why) {
    bool was = l->state == JOINED;
    shut(l);
    if (was && !l->stalled && !l->woken) {
        books.faults.dead++;
        if (!books.said[0]) snprintf(books.said, sizeof books.said, "%s", why);
    }
    if (was || l->state == ENDED) {
        l->state = ENDED;
        return;
    }
    retries++;
    enqueue(l, now_ns() + RETRY);
}

static void begin(struct link *l) {
    int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    inet_pton(AF_INET, opt.host, &to.sin_addr);
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0) die("socket");
    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    l->state = CONNECTING;
    under_way++;
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = l};
    l->events = EPOLLOUT;
    epoll_ctl(ep, EPOLL_CTL_ADD, l->fd, &e);
    if (connect(l->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) over(l, "refused");
}

static void begin_waiting(uint64_t now) {
    while (queue_size && under_way < at_once_most && links[queue[queue_head]].retry_at <= now) {
        struct link *l = &links[queue[queue_head]];
        queue_head = (queue_head + 1) % opt.links;
        queue_size--;
        begin(l);
    }
}

void connect_all(int at_once) {
    at_once_most = at_once;
    for (int i = 0; i < opt.links; i++) enqueue(&links[i], 0);
}

void cut_all(void) {
    for (int i = 0; i < opt.links; i++) {
        shut(&links[i]);
        links[i].heard = false;
        memset(links[i].tracks, 0, (size_t)opt.talkers * sizeof *links[i].tracks);
    }
    hearing_count = 0;
}

static void shake(struct link *l) {
    int done = SSL_do_handshake(l->ssl);
    if (done == 1) {
        l->state = GREETING;
        l->heard_at = now_ns();
        want(l, EPOLLIN);
        dialect->greet(l);
        return;
    }
    switch (SSL_get_error(l->ssl, done)) {
    case SSL_ERROR_WANT_READ: want(l, EPOLLIN); break;
    case SSL_ERROR_WANT_WRITE: want(l, EPOLLOUT); break;
    default:
        if (!books.said[0]) snprintf(books.said, sizeof books.said, "handshake: %s", ERR_reason_error_string(ERR_peek_error()));
        ERR_clear_error();
        over(l, "handshake");
    }
}

static void secure(struct link *l) {
    l->ssl = SSL_new(context);
    SSL_set_fd(l->ssl, l->fd);
    SSL_set_connect_state(l->ssl);
    l->state = SHAKING;
    shake(l);
}

static void flush(struct link *l) {
    size_t done = 0;
    while (done < l->out_size) {
        int n = SSL_write(l->ssl, l->out + done, (int)(l->out_size - done));
        if (n <= 0) {
            ERR_clear_error(); /* a broken link is told by its next read */
            break;
        }
        done += (size_t)n;
    }
    memmove(l->out, l->out + done, l->out_size -= done);
    want(l, l->out_size ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void link_write(struct link *l, const uint8_t *data, size_t size) {
    if (!l->ssl) return;
    if (!l->out_size) {
        int n = SSL_write(l->ssl, data, (int)size);
        if (n > 0) data += n, size -= (size_t)n;
        else ERR_clear_error();
        if (!size) return;
    }
    if (l->out_size + size > OUT_MOST) return;
    if (l->out_size + size > l->out_room) l->out = realloc(l->out, l->out_room = 2 * (l->out_size + size));
    memcpy(l->out + l->out_size, data, size);
    l->out_size += size;
    want(l, EPOLLIN | EPOLLOUT);
}

void link_joined(struct link *l) {
    if (l->state != GREETING) return;
    l->state = JOINED;
    under_way--;
    joined_count++;
}

void link_stall(struct link *l, bool stall) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = l};
    l->stalled = stall;
    l->woken = !stall;
    if (l->state != JOINED) return;
    epoll_ctl(ep, stall ? EPOLL_CTL_DEL : EPOLL_CTL_ADD, l->fd, &e);
    l->events = e.events;
}

static void readable(struct link *l) {
    static uint8_t scratch[SCRATCH];
    do {
        size_t have = l->in_size;
        memcpy(scratch, l->in, have);
        int n = SSL_read(l->ssl, scratch + have, (int)(SCRATCH - have));
        if (n <= 0) {
            int error = SSL_get_error(l->ssl, n);
            ERR_clear_error();
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
                over(l, error == SSL_ERROR_ZERO_RETURN ? "the server closed a link" : "a link broke");
            return;
        }
        uint64_t now = now_ns();
        l->heard_at = now;
        l->asked_at = 0;
        have += (size_t)n;
        long used = dialect->take(l, scratch, have, now);
        if (used < 0) {
            over(l, "the server ended a link");
            return;
        }
        l->in_size = have - (size_t)used;
        if (l->in_size > l->in_room) l->in = realloc(l->in, l->in_room = l->in_size + 512);
        memcpy(l->in, scratch + used, l->in_size);
    } while (SSL_has_pending(l->ssl));
}

static void ready(struct link *l, uint32_t events) {
    int error = 0;
    socklen_t size = sizeof error;
    char text[4096];
    switch (l->state) {
    case CONNECTING:
        getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            over(l, "refused");
        } else if (dialect->clear_first) {
            l->state = CLEAR;
            want(l, EPOLLIN);
        } else
            secure(l);
        break;
    case CLEAR: /* one line, and then it waits for us: whatever is there can be taken */
        error = (int)recv(l->fd, text, sizeof text, 0);
        if (error <= 0) over(l, "closed before TLS");
        else if (text[error - 1] == '\n') secure(l);
        break;
    case SHAKING: shake(l); break;
    case GREETING:
    case JOINED:
        if (events & EPOLLOUT) flush(l);
        if (events & ~(uint32_t)EPOLLOUT) readable(l);
        break;
    default: break;
    }
}

void talk(double per_second) {
    talk_from = now_ns() + 2 * MS;
    talk_next = 0;
    talk_period = per_second > 0 ? (uint64_t)((double)SECOND / per_second) : 0;
}

static uint64_t next_due(void) {
    if (!talk_period) return UINT64_MAX;
    uint64_t n = (uint64_t)talker_count;
    return talk_from + talk_next / n * talk_period + (uint64_t)((double)phase[talk_next % n] / 4294967296.0 * (double)talk_period);
}

static void send_due(void) {
    uint8_t message[4500];
    for (int many = 0; many < 256; many++) {
        uint64_t due = next_due(), now = now_ns();
        if (due > now) return;
        /* phases are sorted, so the order of talkers within a period is that of the array; which is whose does not matter */
        struct talker *t = &talkers[talk_next++ % (uint64_t)talker_count];
        if (t->link->state != JOINED) continue;
        due_sends++;
        late_sends += now - due > LATE;
        if (now - due > late_most) late_most = now - due;
        size_t size = dialect->wrap(t->link, t, message, now);
        t->sequence++;
        books.sent++;
        t->link->media_at = now;
        link_write(t->link, message, size);
    }
}

bool run(uint64_t until, bool (*done)(void)) {
    struct epoll_event events[BATCH];
    for (;;) {
        uint64_t now = now_ns(), next = until;
        if (done && done()) return true;
        if (now >= until) return false;
        if (now >= tick_at) {
            for (int i = 0; i < opt.links; i++)
                if (links[i].state == JOINED) dialect->tick(&links[i], now);
            tick_at = now + TICK;
        }
        begin_waiting(now);
        send_due();
        if (tick_at < next) next = tick_at;
        uint64_t due = next_due();
        if (due < next) next = due;
        now = now_ns();
        uint64_t wait = next > now ? next - now : 0;
        struct timespec t = {(time_t)(wait / SECOND), (long)(wait % SECOND)};
        int n = epoll_pwait2(ep, events, BATCH, &t, NULL);
        for (int i = 0; i < n; i++) ready(events[i].data.ptr, events[i].events);
    }
}
