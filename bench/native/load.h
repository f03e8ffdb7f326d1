/* What the parts of the load generator share; loadgen.c says how they work together. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECOND 1000000000ULL
#define MS 1000000ULL

/* ---- measure.c: clocks, histograms, what the kernel says of a process ---- */

#define HIST_SUB 64 /* steps per doubling: values are known to 1.6 % */
#define HIST_SIZE (HIST_SUB * 59)

struct hist {
    uint64_t bucket[HIST_SIZE], count, most;
    double sum;
};

uint64_t now_ns(void);
void hist_clear(struct hist *h);
void hist_add(struct hist *h, uint64_t ns);
double hist_ms(const struct hist *h, double share); /* the value below which `share` lies; ms */
void hist_json(const char *name, const struct hist *h);

struct usage {
    uint64_t at, server, server_waited, own, own_waited, stolen; /* ns */
};

void watch_pids(const char *list); /* "12,34": these and their children are the server */
uint64_t server_cpu_ns(void);
double server_pss_kib(void);
struct usage usage_now(void);

/* ---- account.c: what every packet carries, and the books every listener keeps ---- */

#define STAMP 32 /* bytes of the payload that carry when, who, which; the rest is a pattern to compare */

struct stamp {
    uint32_t run, stream, talker, sequence;
    uint64_t sent_ns;
    uint32_t step, check;
};

struct track { /* one listener's book of one talker */
    uint64_t window;
    uint32_t highest, distinct;
    bool any;
};

struct talker {
    uint32_t sequence; /* the next to send */
    uint32_t mark;     /* the books begin here */
    uint64_t source;
    struct link *link;
};

struct faults {
    uint64_t lost, duplicated, reordered, echoed, strayed, corrupt, refusals, dead;
};

struct books {
    struct faults faults;
    struct hist latency, spread, woken;
    uint64_t sent, delivered, window_delivered;
    uint64_t window_from, window_to; /* packets sent in between are measured */
    uint64_t step_delivered;
    uint32_t step;
    uint64_t stale; /* packets that a woken link heard and that were older than 2 s */
    char said[300]; /* the first refusal, in the server's words */
};

extern struct books books;

void books_open(void);
size_t payload_fill(uint8_t *into, struct talker *t, uint64_t now);
void deliver(struct link *l, const uint8_t *payload, size_t size, uint64_t now, const uint8_t *media_header);
void books_mark(void);  /* begin counting loss here */
void books_close(void); /* count what is missing since the mark */
void refused(const char *words, size_t size);

/* ---- links.c: sockets, TLS and the loop ---- */

enum state { WAITING, CONNECTING, CLEAR, SHAKING, GREETING, JOINED, ENDED };

struct link {
    int fd, id, stream, talker; /* talker: index, or -1 */
    enum state state;
    SSL *ssl;
    uint8_t *in, *out;
    size_t in_size, in_room, out_size, out_room;
    struct track *tracks; /* one for each talker of the stream */
    uint64_t retry_at, heard_at, asked_at, media_at, pinged_at;
    double keepalive_s;
    uint32_t session; /* Mumble's name of this link */
    uint32_t number;  /* of the next voice packet; Mumble */
    uint32_t events;
    bool stalled, woken, heard, silent;
};

struct options {
    const char *mode, *workload, *host, *ca, *cert, *key, *id, *pids;
    int port, links, streams, talkers, size, stalled;
    double rate, seconds, warm, top_ms, factor, give_up_s;
    int tries;
};

extern struct options opt;
extern struct link *links;
extern struct talker *talkers;
extern int talker_count, joined_count, hearing_count, retries;
extern uint64_t late_sends, due_sends, late_most;

void links_open(void);
void connect_all(int at_once);
void link_write(struct link *l, const uint8_t *data, size_t size);
void link_joined(struct link *l);
void link_stall(struct link *l, bool stall);
void cut_all(void);
void talk(double per_second); /* 0: be silent */
bool run(uint64_t until, bool (*done)(void)); /* false: time ran out first */

/* ---- dialects.c ---- */

struct dialect {
    const char *name;
    bool clear_first; /* the server speaks first, in the clear, and then TLS begins (NATS) */
    void (*greet)(struct link *l);
    long (*take)(struct link *l, const uint8_t *data, size_t size, uint64_t now); /* bytes used, -1: the link is over */
    size_t (*wrap)(struct link *l, struct talker *t, uint8_t *message, uint64_t now);
    void (*tick)(struct link *l, uint64_t now);
};

extern const struct dialect *dialect;
const struct dialect *dialect_named(const char *name);
void ice_header(uint8_t *into, const struct talker *t, uint32_t sequence, size_t size);

#endif
