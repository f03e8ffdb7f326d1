/* The languages of the servers: the link protocol of ice, NATS, MQTT 3.1.1, Mumble with its voice inside TCP. */
#define _GNU_SOURCE
#include "load.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct dialect *dialect;

static uint64_t be(const uint8_t *p, int bytes) {
    uint64_t v = 0;
    while (bytes--) v = v << 8 | *p++;
    return v;
}

static uint8_t *put(uint8_t *p, uint64_t v, int bytes) {
    for (int i = bytes; i--; v >>= 8) p[i] = (uint8_t)v;
    return p + bytes;
}

static void say(struct link *l, const char *words) { link_write(l, (const uint8_t *)words, strlen(words)); }

/* ---- ice: docs/link-protocol.md ---- */

enum { HELLO = 1, WELCOME, JOIN, ERROR_ = 8, BYE, PING = 6, PONG, MEDIA = 0x10, FIRST = 2 };

static uint64_t *ice_keys;
static uint8_t ice_prefix[SHA256_DIGEST_LENGTH];

static void ice_frame(struct link *l, int type, const char *body) {
    uint8_t frame[600];
    size_t size = strlen(body);
    put(frame, size, 2);
    frame[2] = (uint8_t)type;
    memcpy(frame + 3, body, size);
    link_write(l, frame, 3 + size);
}

static void ice_prepare(void) {
    uint8_t id[16], hash[SHA256_DIGEST_LENGTH];
    char name[40];
    int n = 0;
    for (const char *c = opt.id; *c && n < 32; c++) {
        if (*c == '-') continue;
        int digit = *c <= '9' ? *c - '0' : *c - 'a' + 10;
        if (n % 2) id[n / 2] |= (uint8_t)digit;
        else id[n / 2] = (uint8_t)(digit << 4);
        n++;
    }
    SHA256(id, sizeof id, ice_prefix);
    ice_keys = calloc((size_t)opt.streams, sizeof *ice_keys);
    for (int i = 0; i < opt.streams; i++) {
        snprintf(name, sizeof name, "bench-%d", i);
        SHA256((uint8_t *)name, strlen(name), hash);
        ice_keys[i] = be(hash, 8);
    }
    for (int i = 0; i < talker_count; i++) talkers[i].source = be(ice_prefix, 4) << 32 | (0x1ce00000u + (uint32_t)i);
}

void ice_header(uint8_t *p, const struct talker *t, uint32_t sequence, size_t size) {
    p = put(p, 21 + size, 2);
    *p++ = MEDIA;
    *p++ = sequence ? 0 : FIRST;
    p = put(p, ice_keys[t->link->stream], 8);
    p = put(p, t->source, 8);
    put(p, sequence, 4);
}

static void ice_greet(struct link *l) {
    char body[400];
    if (!ice_keys) ice_prepare();
    l->keepalive_s = 5;
    snprintf(body, sizeof body, "{\"version\":1,\"role\":\"client\",\"id\":\"%s\",\"name\":\"load %d\",\"agent\":\"bench\"}", opt.id, l->id);
    ice_frame(l, HELLO, body);
}

static void ice_join(struct link *l) {
    char body[200];
    if (l->talker >= 0)
        snprintf(body, sizeof body, "{\"txn\":1,\"stream\":\"bench-%d\",\"source\":\"%016llx\"}", l->stream,
                 (unsigned long long)talkers[l->talker].source);
    else
        snprintf(body, sizeof body, "{\"txn\":1,\"stream\":\"bench-%d\",\"talk\":false}", l->stream);
    ice_frame(l, JOIN, body);
}

static long ice_take(struct link *l, const uint8_t *data, size_t size, uint64_t now) {
    size_t at = 0;
    while (size - at >= 3) {
        size_t body = (size_t)be(data + at, 2);
        const uint8_t *p = data + at + 3;
        const char *found;
        if (size - at < 3 + body) break;
        switch (data[at + 2]) {
        case MEDIA:
            if (body < 21) return -1;
            deliver(l, p + 21, body - 21, now, data + at);
            break;
        case WELCOME:
            found = memmem(p, body, "\"keepalive\":", 12);
            if (found) l->keepalive_s = strtod(found + 12, NULL);
            ice_join(l);
            break;
        case 4: link_joined(l); break;
        case PING: {
            uint8_t pong[11] = {0, 8, PONG};
            memcpy(pong + 3, p, 8);
            link_write(l, pong, sizeof pong);
            break;
        }
        case PONG: break;
        case BYE:
        case ERROR_:
            refused((const char *)p, body);
            if (data[at + 2] == BYE) return -1;
            break;
        default: break;
        }
        at += 3 + body;
    }
    return (long)at;
}

static size_t ice_wrap(struct link *l, struct talker *t, uint8_t *message, uint64_t now) {
    (void)l;
    ice_header(message, t, t->sequence, (size_t)opt.size);
    return 24 + payload_fill(message + 24, t, now);
}

static void ice_ping(struct link *l, uint64_t now) {
    uint8_t ping[11] = {0, 8, PING};
    put(ping + 3, now, 8);
    link_write(l, ping, sizeof ping);
    l->pinged_at = now;
}

static void ice_tick(struct link *l, uint64_t now) {
    bool moving = l->media_at && now - l->media_at < 2 * SECOND;
    uint64_t patience = moving ? SECOND : (uint64_t)(l->keepalive_s * (double)SECOND);
    bool sends = moving && l->talker >= 0;
    if ((sends || l->stalled) && now - l->pinged_at >= SECOND) ice_ping(l, now); /* section 6, Fresh; a stalled one lives on, deaf */
    if (l->stalled || now - l->heard_at < patience) return;
    if (!l->asked_at) {
        l->asked_at = now;
        ice_ping(l, now);
    } else if (now - l->asked_at > 3 * SECOND / 2 && !l->silent) {
        l->silent = true;
        if (!books.said[0]) snprintf(books.said, sizeof books.said, "no answer to PING within 1.5 s");
        books.faults.dead++;
    }
}

/* ---- NATS ---- */

static void nats_greet(struct link *l) {
    char text[200];
    snprintf(text, sizeof text,
             "CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":true,\"echo\":false,\"name\":\"load\",\"lang\":\"c\",\"version\":\"1\"}\r\n"
             "SUB b.%d 1\r\nPING\r\n",
             l->stream);
    say(l, text);
}

static long nats_take(struct link *l, const uint8_t *data, size_t size, uint64_t now) {
    size_t at = 0;
    while (at < size) {
        const uint8_t *p = data + at, *end = memchr(p, '\n', size - at);
        if (!end) break;
        size_t line = (size_t)(end - p) + 1;
        if (line > 4 && !memcmp(p, "MSG ", 4)) {
            const uint8_t *c = end - 1; /* at \r; the number of bytes stands before it */
            size_t body = 0, scale = 1;
            for (c--; *c >= '0' && *c <= '9'; c--, scale *= 10) body += (size_t)(*c - '0') * scale;
            if (size - at < line + body + 2) break;
            deliver(l, p + line, body, now, NULL);
            at += line + body + 2;
            continue;
        }
        if (!memcmp(p, "PING", 4)) say(l, "PONG\r\n");
        else if (!memcmp(p, "PONG", 4)) link_joined(l);
        else if (*p == '-') refused((const char *)p, line);
        at += line;
    }
    return (long)at;
}

static size_t nats_wrap(struct link *l, struct talker *t, uint8_t *message, uint64_t now) {
    size_t n = (size_t)sprintf((char *)message, "PUB b.%d %d\r\n", l->stream, opt.size);
    n += payload_fill(message + n, t, now);
    memcpy(message + n, "\r\n", 2);
    return n + 2;
}

static void nothing_due(struct link *l, uint64_t now) {
    (void)l;
    (void)now;
}

/* ---- MQTT 3.1.1, QoS 0. A subscriber hears what it publishes itself, so each talker has a topic of its own and nobody
 * subscribes to his own; everybody hears all the others, as everywhere else. ---- */

static uint8_t *mqtt_length(uint8_t *p, size_t n) {
    do {
        *p++ = (uint8_t)((n & 127) | (n > 127 ? 128 : 0));
        n >>= 7;
    } while (n);
    return p;
}

static uint8_t *mqtt_text(uint8_t *p, const char *text) {
    size_t n = strlen(text);
    memcpy(put(p, n, 2), text, n);
    return p + 2 + n;
}

static void mqtt_send(struct link *l, int type, const uint8_t *body, size_t size) {
    uint8_t message[4096], *p = message;
    *p++ = (uint8_t)type;
    p = mqtt_length(p, size);
    memcpy(p, body, size);
    link_write(l, message, (size_t)(p - message) + size);
}

static void mqtt_greet(struct link *l) {
    uint8_t body[100], *p = mqtt_text(body, "MQTT");
    char name[30];
    *p++ = 4; /* 3.1.1 */
    *p++ = 2; /* a clean session */
    p = put(p, 60, 2);
    snprintf(name, sizeof name, "load%d", l->id);
    p = mqtt_text(p, name);
    mqtt_send(l, 0x10, body, (size_t)(p - body));
}

static void mqtt_subscribe(struct link *l) {
    uint8_t body[4000], *p = put(body, 1, 2);
    char name[40];
    for (int t = 0; t < opt.talkers; t++) {
        if (l->stream * opt.talkers + t == l->talker) continue;
        snprintf(name, sizeof name, "b/%d/%d", l->stream, t);
        p = mqtt_text(p, name);
        *p++ = 0;
    }
    if (p == body + 2) link_joined(l); /* the only talker has nobody to hear */
    else mqtt_send(l, 0x82, body, (size_t)(p - body));
}

static long mqtt_take(struct link *l, const uint8_t *data, size_t size, uint64_t now) {
    size_t at = 0;
    while (size - at >= 2) {
        size_t body = 0, head = 1;
        int shift = 0;
        for (;; shift += 7) {
            if (at + head >= size || shift > 21) return (long)at;
            uint8_t c = data[at + head++];
            body |= (size_t)(c & 127) << shift;
            if (c < 128) break;
        }
        const uint8_t *p = data + at + head;
        if (size - at < head + body) break;
        switch (data[at] >> 4) {
        case 2:
            if (p[1]) refused("MQTT CONNACK refuses", 20);
            else mqtt_subscribe(l);
            break;
        case 3: {
            size_t topic = 2 + (size_t)be(p, 2);
            deliver(l, p + topic, body - topic, now, NULL);
            break;
        }
        case 9:
            if (p[2] & 0x80) refused("MQTT SUBACK refuses", 19);
            link_joined(l);
            break;
        default: break;
        }
        at += head + body;
    }
    return (long)at;
}

static size_t mqtt_wrap(struct link *l, struct talker *t, uint8_t *message, uint64_t now) {
    char name[40];
    uint8_t *p = message;
    int n = snprintf(name, sizeof name, "b/%d/%d", l->stream, (int)(t - talkers) % opt.talkers);
    *p++ = 0x30;
    p = mqtt_length(p, 2 + (size_t)n + (size_t)opt.size);
    p = mqtt_text(p, name);
    return (size_t)(p - message) + payload_fill(p, t, now);
}

static void mqtt_tick(struct link *l, uint64_t now) {
    if (now - l->pinged_at < 30 * SECOND) return;
    if (l->pinged_at) link_write(l, (const uint8_t *)"\xc0\x00", 2);
    l->pinged_at = now;
}

/* ---- Mumble: protobuf for control, voice packets in UDPTunnel (the client never sends a datagram). The channels are
 * made beforehand: stream n is channel n + 1. ---- */

enum { M_VERSION = 0, M_TUNNEL = 1, M_LOGIN = 2, M_PING = 3, M_REJECT = 4, M_SYNC = 5, M_USER = 9, M_DENIED = 12, OPUS = 4 };

static uint8_t *pb_varint(uint8_t *p, uint64_t v) {
    for (; v > 127; v >>= 7) *p++ = (uint8_t)(v | 128);
    *p++ = (uint8_t)v;
    return p;
}

static uint8_t *pb_number(uint8_t *p, int field, uint64_t v) { return pb_varint(pb_varint(p, (uint64_t)field << 3), v); }

static uint8_t *pb_text(uint8_t *p, int field, const char *text) {
    size_t n = strlen(text);
    p = pb_varint(pb_varint(p, (uint64_t)field << 3 | 2), n);
    memcpy(p, text, n);
    return p + n;
}

/* The number in `field` of a flat message; `none` when it is not there. */
static uint64_t pb_find(const uint8_t *p, const uint8_t *end, int field, uint64_t none) {
    while (p < end) {
        uint64_t v[2] = {0, 0};
        for (int i = 0; i < 2; i++) {
            for (int shift = 0; p < end; shift += 7) {
                v[i] |= (uint64_t)(*p & 127) << shift;
                if (*p++ < 128) break;
            }
            if (!i && (v[0] & 7) != 0 && (v[0] & 7) != 2) return none;
        }
        if ((v[0] & 7) == 2) p += v[1];
        else if (v[0] >> 3 == (uint64_t)field) return v[1];
    }
    return none;
}

static void mumble_send(struct link *l, int type, const uint8_t *body, const uint8_t *end) {
    uint8_t message[300], *p = put(put(message, (uint64_t)type, 2), (uint64_t)(end - body), 4);
    memcpy(p, body, (size_t)(end - body));
    link_write(l, message, 6 + (size_t)(end - body));
}

static void mumble_greet(struct link *l) {
    uint8_t body[200];
    char name[30];
    mumble_send(l, M_VERSION, body, pb_text(pb_number(body, 1, 0x010300), 2, "bench")); /* 1.3.0: voice packets of the older form */
    snprintf(name, sizeof name, "load%d", l->id);
    mumble_send(l, M_LOGIN, body, pb_number(pb_text(body, 1, name), 5, 1));
}

/* Mumble's own variable-length integer. */
static uint8_t *mv_put(uint8_t *p, uint64_t v) {
    if (v < 0x80) return put(p, v, 1);
    if (v < 0x4000) return put(p, v | 0x8000, 2);
    if (v < 0x200000) return put(p, v | 0xc00000, 3);
    return put(put(p, 0xf0, 1), v, 4);
}

static const uint8_t *mv_get(const uint8_t *p, const uint8_t *end, uint64_t *v) {
    int more = *p < 0x80 ? 0 : *p < 0xc0 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
    if (p + 1 + more > end) return end;
    *v = more == 4 ? be(p + 1, 4) : be(p, 1 + more) & ((1ULL << (7 * (more + 1))) - 1);
    return p + 1 + more;
}

static long mumble_take(struct link *l, const uint8_t *data, size_t size, uint64_t now) {
    size_t at = 0;
    while (size - at >= 6) {
        size_t body = (size_t)be(data + at + 2, 4);
        const uint8_t *p = data + at + 6, *end = p + body;
        uint64_t v = 0;
        uint8_t answer[40];
        if (size - at < 6 + body) break;
        switch (be(data + at, 2)) {
        case M_TUNNEL:
            if (!body || *p >> 5 != OPUS) break;
            p = mv_get(p + 1, end, &v);          /* whose */
            if (p < end) p = mv_get(p, end, &v); /* number */
            if (p < end) p = mv_get(p, end, &v); /* bytes, and 0x2000 for the last of a burst */
            v &= 0x1fff;
            deliver(l, p, (size_t)(end - p) < v ? 0 : (size_t)v, now, NULL);
            break;
        case M_SYNC:
            l->session = (uint32_t)pb_find(p, end, 1, 0);
            mumble_send(l, M_USER, answer, pb_number(pb_number(answer, 1, l->session), 5, (uint64_t)l->stream + 1));
            break;
        case M_USER:
            if (l->session && pb_find(p, end, 1, 0) == l->session && pb_find(p, end, 5, 0) == (uint64_t)l->stream + 1) link_joined(l);
            break;
        case M_REJECT:
        case M_DENIED: refused((const char *)p, body); break;
        default: break;
        }
        at += 6 + body;
    }
    return (long)at;
}

static size_t mumble_wrap(struct link *l, struct talker *t, uint8_t *message, uint64_t now) {
    uint8_t *p = message + 6;
    *p++ = OPUS << 5;
    p = mv_put(p, l->number += 2);
    p = mv_put(p, (uint64_t)opt.size);
    p += payload_fill(p, t, now);
    put(put(message, M_TUNNEL, 2), (uint64_t)(p - message - 6), 4);
    return (size_t)(p - message);
}

static void mumble_tick(struct link *l, uint64_t now) {
    uint8_t body[16];
    if (now - l->pinged_at < 10 * SECOND) return;
    if (l->pinged_at) mumble_send(l, M_PING, body, pb_number(body, 1, now / 1000));
    l->pinged_at = now;
}

static const struct dialect dialects[] = {
    {"ice", false, ice_greet, ice_take, ice_wrap, ice_tick},
    {"nats", true, nats_greet, nats_take, nats_wrap, nothing_due},
    {"mqtt", false, mqtt_greet, mqtt_take, mqtt_wrap, mqtt_tick},
    {"mumble", false, mumble_greet, mumble_take, mumble_wrap, mumble_tick},
};

const struct dialect *dialect_named(const char *name) {
    for (size_t i = 0; i < sizeof dialects / sizeof *dialects; i++)
        if (!strcmp(dialects[i].name, name)) return &dialects[i];
    return NULL;
}
