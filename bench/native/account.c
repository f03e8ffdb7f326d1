/* What every packet carries, and the books that every listener keeps of every talker.
 *
 * A payload begins with a stamp: when, who, which. Behind it comes a piece of a fixed random pool, chosen by talker and
 * sequence, so that every byte is compared at the price of one memcmp. Latency runs from just before the talker's write
 * to just after the listener has the packet decrypted. */
#include "load.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POOL 8192
#define RING 1024 /* packets of one talker that may be under way at once and still have their spread measured */

struct books books;

struct fanned { /* one packet on its way to all */
    uint64_t first;
    uint32_t sequence, count;
};

static uint8_t pool[POOL + 4096];
static uint32_t run_id;
static struct fanned *rings;

void books_open(void) {
    uint64_t x = 88172645463325252ULL;
    for (size_t i = 0; i < sizeof pool; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17; /* xorshift64 */
        pool[i] = (uint8_t)x;
    }
    run_id = (uint32_t)now_ns() ^ (uint32_t)getpid();
    rings = calloc((size_t)talker_count * RING, sizeof *rings);
    for (int i = 0; i < talker_count * RING; i++) rings[i].sequence = UINT32_MAX;
}

static const uint8_t *pattern(const struct stamp *s) {
    return pool + (s->talker * 2654435761u + s->sequence * 40503u) % POOL;
}

static uint32_t check(const struct stamp *s) {
    uint64_t x = ((uint64_t)s->run << 32 | s->sequence) ^ ((uint64_t)s->talker << 40) ^ ((uint64_t)s->stream << 17) ^ s->sent_ns ^
                 ((uint64_t)s->step << 55);
    x *= 0x9E3779B97F4A7C15ULL;
    return (uint32_t)(x >> 32);
}

size_t payload_fill(uint8_t *into, struct talker *t, uint64_t now) {
    struct stamp s = {.run = run_id,
                      .stream = (uint32_t)t->link->stream,
                      .talker = (uint32_t)(t - talkers),
                      .sequence = t->sequence,
                      .sent_ns = now,
                      .step = books.step};
    s.check = check(&s);
    memcpy(into, &s, STAMP);
    memcpy(into + STAMP, pattern(&s), (size_t)opt.size - STAMP);
    return (size_t)opt.size;
}

static void spread(const struct stamp *s, uint64_t now) {
    struct fanned *f = &rings[s->talker * RING + s->sequence % RING];
    if (f->sequence != s->sequence) *f = (struct fanned){.sequence = s->sequence, .first = now};
    uint32_t all = (uint32_t)(opt.links / opt.streams + ((int)s->stream < opt.links % opt.streams)) - 1;
    if (++f->count == all) hist_add(&books.spread, now - f->first);
}

void deliver(struct link *l, const uint8_t *payload, size_t size, uint64_t now, const uint8_t *media_header) {
    struct stamp s;
    uint8_t header[24];
    if (size != (size_t)opt.size) {
        books.faults.corrupt++;
        return;
    }
    memcpy(&s, payload, STAMP);
    if (s.run != run_id || s.check != check(&s) || s.talker >= (uint32_t)talker_count ||
        memcmp(payload + STAMP, pattern(&s), size - STAMP)) {
        books.faults.corrupt++;
        return;
    }
    if (media_header) {
        ice_header(header, &talkers[s.talker], s.sequence, size);
        if (memcmp(header, media_header, sizeof header)) {
            books.faults.corrupt++;
            return;
        }
    }
    l->media_at = now;
    if ((int)s.talker == l->talker) {
        books.faults.echoed++;
        return;
    }
    if ((int)s.stream != l->stream) {
        books.faults.strayed++;
        return;
    }
    if (!l->heard) {
        l->heard = true;
        hearing_count++;
    }
    struct track *k = &l->tracks[s.talker % (uint32_t)opt.talkers];
    if (!k->any || s.sequence > k->highest) {
        uint32_t on = k->any ? s.sequence - k->highest : 64;
        k->window = (on < 64 ? k->window << on : 0) | 1;
        k->highest = s.sequence;
        k->any = true;
    } else {
        uint32_t back = k->highest - s.sequence;
        if (back >= 64 || k->window >> back & 1) { /* so far back would be both; nobody sends 64 packets out of order */
            books.faults.duplicated++;
            return;
        }
        books.faults.reordered++;
        k->window |= 1ULL << back;
    }
    if (s.sequence >= talkers[s.talker].mark) k->distinct++;
    books.delivered++;
    if (l->woken) {
        hist_add(&books.woken, now - s.sent_ns);
        books.stale += now - s.sent_ns > 2 * SECOND;
        return;
    }
    if (now >= books.window_from && now < books.window_to) books.window_delivered++;
    if (s.step == books.step) books.step_delivered++;
    if (s.sent_ns >= books.window_from && s.sent_ns < books.window_to) {
        hist_add(&books.latency, now - s.sent_ns);
        spread(&s, now);
    }
}

void books_mark(void) {
    for (int i = 0; i < talker_count; i++) talkers[i].mark = talkers[i].sequence;
    for (int i = 0; i < opt.links; i++)
        for (int t = 0; t < opt.talkers; t++) links[i].tracks[t].distinct = 0;
}

void books_close(void) {
    for (int i = 0; i < opt.links; i++) {
        struct link *l = &links[i];
        if (l->stalled || l->woken) continue;
        for (int t = 0; t < opt.talkers; t++) {
            int who = l->stream * opt.talkers + t;
            if (who == l->talker) continue;
            uint32_t sent = talkers[who].sequence - talkers[who].mark;
            if (sent > l->tracks[t].distinct) books.faults.lost += sent - l->tracks[t].distinct;
        }
    }
}

void refused(const char *words, size_t size) {
    books.faults.refusals++;
    if (books.said[0]) return;
    size_t n = size < sizeof books.said - 1 ? size : sizeof books.said - 1;
    for (size_t i = 0; i < n; i++) /* printable, and nothing that JSON would have to escape */
        books.said[i] = words[i] < ' ' || words[i] > '~' || words[i] == '"' || words[i] == '\\' ? ' ' : words[i];
}
