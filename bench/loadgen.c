/* The load generator: thousands of links to one server, one thread, one line of JSON.
 *
 *   loadgen --mode ice --workload flow --port 7443 --ca ca.pem --cert client.pem --key client.key --id UUID
 *           --links 200 --streams 10 --talkers 1 --rate 50 --seconds 5 --pids 4711
 *
 * flow    talkers talk at `rate` for `seconds`                       (calm, multi, hall)
 * ramp    the rate rises by `factor` each second until p99 is over `top-ms`, then the last gap is halved thrice  (wide)
 * idle    links that say nothing: memory of each, CPU of all
 * storm   all links are cut and come back at once
 * stall   `stalled` of the links stop reading for `seconds`, then wake
 *
 * The first `talkers` links of each stream talk; all listen. Parts: native/links.c (sockets and the loop), native/dialects.c
 * (what the servers speak), native/account.c (what every packet carries and who misses it), native/measure.c. */
#include "native/load.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS 60
#define STEP_DRAIN (300 * MS) /* after each step everything may still arrive; ten times the latency that is allowed */

struct options opt = {.mode = "ice", .workload = "flow", .host = "127.0.0.1", .id = "", .pids = "", .links = 200, .streams = 10,
                      .talkers = 1, .size = 120, .rate = 50, .seconds = 5, .warm = 1, .top_ms = 25, .factor = 1.4, .give_up_s = 60,
                      .tries = 3};

static struct usage from, to;
static double joined_s, join_cpu_ms, kib_before, kib_after;

static double seconds(uint64_t ns) { return (double)ns / SECOND; }
static uint64_t ns(double s) { return (uint64_t)(s * SECOND); }
static bool all_joined(void) { return joined_count == opt.links; }
static bool all_heard(void) { return joined_count == opt.links && hearing_count >= opt.links - (opt.talkers == 1 ? talker_count : 0); }

static uint64_t given_up; /* deliveries that an overloaded server owed and nobody waits for any more */
static uint64_t owed(void) { return books.sent * (uint64_t)(opt.links / opt.streams - 1); }
static bool all_delivered(void) { return books.delivered + given_up >= owed(); }

static void give_up(const char *what) {
    printf("{\"mode\":\"%s\",\"workload\":\"%s\",\"failed\":\"%s: %d of %d links, %d retries; %s\"}\n", opt.mode, opt.workload, what,
           joined_count, opt.links, retries, books.said);
    exit(1);
}

static void join_all(int at_once) {
    uint64_t start = now_ns(), cpu = server_cpu_ns();
    connect_all(at_once);
    if (!run(start + ns(opt.give_up_s), all_joined)) give_up("not all links joined");
    joined_s = seconds(now_ns() - start);
    join_cpu_ms = (double)(server_cpu_ns() - cpu) / MS / opt.links;
}

static void window_opens(void) {
    books.window_delivered = 0;
    from = usage_now();
    books.window_from = now_ns();
    books.window_to = UINT64_MAX;
}

static void window_closes(void) {
    books.window_to = now_ns();
    to = usage_now();
}

static void print_head(void) {
    printf("{\"mode\":\"%s\",\"workload\":\"%s\",\"links\":%d,\"streams\":%d,\"talkers\":%d,\"rate\":%g,\"size\":%d", opt.mode, opt.workload,
           opt.links, opt.streams, opt.talkers, opt.rate, opt.size);
    printf(",\"joined_s\":%.4f,\"join_cpu_ms\":%.4f,\"retries\":%d", joined_s, join_cpu_ms, retries);
}

static void print_window(void) {
    double wall = (double)(to.at - from.at), cpu = (double)(to.server - from.server);
    printf(",\"seconds\":%.3f,\"cpu_share\":%.5f,\"wait_share\":%.4f,\"stolen_share\":%.4f", wall / SECOND, cpu / wall,
           (double)(to.server_waited - from.server_waited) / wall, (double)(to.stolen - from.stolen) / wall);
    printf(",\"generator\":{\"cpu_share\":%.4f,\"wait_share\":%.4f,\"late_share\":%.5f,\"late_ms\":%.3f}",
           (double)(to.own - from.own) / wall, (double)(to.own_waited - from.own_waited) / wall,
           due_sends ? (double)late_sends / (double)due_sends : 0, (double)late_most / MS);
    if (books.window_delivered)
        printf(",\"deliveries\":%llu,\"deliveries_per_s\":%.1f,\"cpu_us\":%.4f", (unsigned long long)books.window_delivered,
               (double)books.window_delivered / wall * SECOND, cpu / 1000 / (double)books.window_delivered);
}

static void print_faults(void) {
    struct faults *f = &books.faults;
    printf(",\"faults\":{\"lost\":%llu,\"duplicated\":%llu,\"reordered\":%llu,\"echoed\":%llu,\"strayed\":%llu,\"corrupt\":%llu,"
           "\"refusals\":%llu,\"dead\":%llu},\"said\":\"%s\"}\n",
           (unsigned long long)f->lost, (unsigned long long)f->duplicated, (unsigned long long)f->reordered, (unsigned long long)f->echoed,
           (unsigned long long)f->strayed, (unsigned long long)f->corrupt, (unsigned long long)f->refusals, (unsigned long long)f->dead,
           books.said);
}

/* Everything sent has arrived, or nobody waits for it any longer. */
static void drain(void) {
    talk(0);
    run(now_ns() + 2 * SECOND, all_delivered);
    run(now_ns() + 50 * MS, NULL); /* what comes twice comes late */
}

static void flow(void) {
    join_all(64);
    run(now_ns() + 300 * MS, NULL);
    books_mark();
    talk(opt.rate);
    run(now_ns() + ns(opt.warm), NULL);
    late_sends = due_sends = late_most = 0;
    window_opens();
    run(now_ns() + ns(opt.seconds), NULL);
    window_closes();
    drain();
    books_close();
    print_head();
    print_window();
    hist_json("latency_ms", &books.latency);
    hist_json("spread_ms", &books.spread);
    printf(",\"sent\":%llu,\"delivered\":%llu", (unsigned long long)books.sent, (unsigned long long)books.delivered);
    print_faults();
}

/* ---- ramp ---- */

static bool step(double rate, int number, bool *generator) {
    uint64_t sent = books.sent, due = (uint64_t)(rate * talker_count), hearers = (uint64_t)(opt.links / opt.streams - 1);
    books.step = (uint32_t)number;
    books.step_delivered = 0;
    late_sends = due_sends = late_most = 0;
    hist_clear(&books.latency);
    talk(rate);
    window_opens();
    run(now_ns() + SECOND, NULL);
    window_closes();
    talk(0);
    uint64_t busy = to.at - from.at;
    run(now_ns() + STEP_DRAIN, all_delivered);
    sent = books.sent - sent;
    double p99 = hist_ms(&books.latency, .99), share = (double)(to.own - from.own) / (double)busy;
    bool sent_all = (double)sent >= .97 * (double)due && late_sends * 33 < due_sends;
    bool good = p99 <= opt.top_ms && sent_all && (double)books.step_delivered >= .97 * (double)(sent * hearers);
    bool server_full = (double)(to.server - from.server) > .95 * (double)busy;
    *generator = (share > .95 || !sent_all) && !server_full;
    printf("%s{\"rate\":%.3f,\"deliveries_per_s\":%.1f,\"p50\":%.3f,\"p99\":%.3f,\"cpu_us\":%.4f,\"cpu_share\":%.4f,\"generator\":%.3f,"
           "\"sent_all\":%s,\"good\":%s}",
           number ? "," : "", rate, (double)books.window_delivered / seconds(busy), hist_ms(&books.latency, .5), p99,
           books.window_delivered ? (double)(to.server - from.server) / 1000 / (double)books.window_delivered : 0,
           (double)(to.server - from.server) / (double)busy, share, sent_all ? "true" : "false", good ? "true" : "false");
    if (!run(now_ns() + 2 * SECOND, all_delivered)) given_up = owed() - books.delivered; /* a backlog belongs to the step that made it */
    if (good && books.step_delivered < sent * hearers) books.faults.lost += sent * hearers - books.step_delivered;
    return good;
}

static void ramp(void) {
    double rate = opt.rate, best = 0, bad = 0;
    bool generator = false, limited = false;
    int number = 0;
    join_all(64);
    run(now_ns() + 300 * MS, NULL);
    books_mark();
    print_head();
    printf(",\"steps\":[");
    for (; !bad && number < STEPS - 20; rate *= opt.factor) {
        bool good = false;
        for (int tries = 0; !good && tries < opt.tries; tries++) good = step(rate, number++, &generator);
        if (good) best = rate;
        else bad = rate, limited = generator;
    }
    for (int halving = 0; best && bad && halving < 3 && opt.tries > 1; halving++) {
        rate = best * __builtin_sqrt(bad / best);
        bool good = step(rate, number++, &generator) || step(rate, number++, &generator);
        if (good) best = rate;
        else bad = rate, limited = generator;
    }
    printf("],\"best_per_s\":%.1f,\"generator_limited\":%s", best * talker_count * (opt.links / opt.streams - 1), limited ? "true" : "false");
    print_faults(); /* loss counts in good steps only: of an overloaded server it is the way out */
}

/* ---- idle ---- */

static void idle(void) {
    kib_before = server_pss_kib();
    join_all(64);
    run(now_ns() + SECOND, NULL);
    kib_after = server_pss_kib();
    window_opens();
    run(now_ns() + ns(opt.seconds), NULL);
    window_closes();
    print_head();
    print_window();
    printf(",\"kib_before\":%.0f,\"kib_after\":%.0f,\"kib_per_link\":%.3f", kib_before, kib_after, (kib_after - kib_before) / opt.links);
    print_faults();
}

/* ---- storm ---- */

static void storm(void) {
    join_all(64);
    talk(opt.rate);
    if (!run(now_ns() + ns(opt.give_up_s), all_heard)) give_up("not all heard before the storm");
    run(now_ns() + 300 * MS, NULL);
    retries = 0;
    window_opens();
    cut_all();
    uint64_t start = now_ns();
    connect_all(opt.links);
    if (!run(start + ns(opt.give_up_s), all_joined)) give_up("not all came back");
    double back_s = seconds(now_ns() - start);
    window_closes();
    double cpu_ms = (double)(to.server - from.server) / MS / opt.links;
    if (!run(start + ns(opt.give_up_s), all_heard)) give_up("not all heard again");
    double heard_s = seconds(now_ns() - start);
    run(now_ns() + 300 * MS, NULL);
    books_mark();
    run(now_ns() + SECOND, NULL);
    talk(0);
    run(now_ns() + SECOND, NULL);
    books_close();
    print_head();
    print_window();
    printf(",\"back_s\":%.4f,\"heard_s\":%.4f,\"back_cpu_ms\":%.4f", back_s, heard_s, cpu_ms);
    print_faults();
}

/* ---- stall ---- */

static void stall(void) {
    static struct hist before;
    int many = 0;
    join_all(64);
    run(now_ns() + 300 * MS, NULL);
    books_mark();
    talk(opt.rate);
    run(now_ns() + ns(opt.warm), NULL);
    window_opens();
    run(now_ns() + ns(opt.seconds), NULL);
    window_closes();
    run(now_ns() + 100 * MS, NULL);
    before = books.latency;
    hist_clear(&books.latency);
    for (int i = opt.links - 1; i >= 0 && many < opt.stalled; i--)
        if (links[i].talker < 0) link_stall(&links[i], true), many++;
    window_opens();
    run(now_ns() + ns(opt.seconds), NULL);
    window_closes();
    print_head();
    print_window();
    hist_json("before_ms", &before);
    hist_json("latency_ms", &books.latency);
    for (int i = 0; i < opt.links; i++)
        if (links[i].stalled) link_stall(&links[i], false);
    run(now_ns() + 1500 * MS, NULL);
    talk(0);
    run(now_ns() + 700 * MS, NULL);
    books_close();
    int gone = 0;
    for (int i = 0; i < opt.links; i++) gone += links[i].woken && links[i].state != JOINED;
    hist_json("woken_ms", &books.woken);
    printf(",\"stalled\":%d,\"stale_s\":%.3f,\"gone\":%d", many,
           many ? (double)books.stale / many / (opt.rate * opt.talkers) : 0, gone);
    print_faults();
}

/* ---- */

static const struct {
    const char *name;
    void (*run)(void);
} workloads[] = {{"flow", flow}, {"ramp", ramp}, {"idle", idle}, {"storm", storm}, {"stall", stall}};

static const struct {
    const char *name;
    int kind; /* s: text, i: integer, d: number */
    void *where;
} names[] = {
    {"--mode", 's', &opt.mode},       {"--workload", 's', &opt.workload}, {"--host", 's', &opt.host},       {"--port", 'i', &opt.port},
    {"--ca", 's', &opt.ca},           {"--cert", 's', &opt.cert},         {"--key", 's', &opt.key},         {"--id", 's', &opt.id},
    {"--pids", 's', &opt.pids},       {"--links", 'i', &opt.links},       {"--streams", 'i', &opt.streams}, {"--talkers", 'i', &opt.talkers},
    {"--size", 'i', &opt.size},       {"--rate", 'd', &opt.rate},         {"--seconds", 'd', &opt.seconds}, {"--warm", 'd', &opt.warm},
    {"--top-ms", 'd', &opt.top_ms},   {"--factor", 'd', &opt.factor},     {"--tries", 'i', &opt.tries},     {"--stalled", 'i', &opt.stalled},
    {"--give-up", 'd', &opt.give_up_s},
};

static void usage(const char *what) {
    fprintf(stderr, "loadgen: %s; see the head of bench/loadgen.c\n", what);
    exit(2);
}

static void read_options(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        size_t n = 0;
        while (n < sizeof names / sizeof *names && strcmp(names[n].name, argv[i])) n++;
        if (n == sizeof names / sizeof *names || i + 1 == argc) usage(argv[i]);
        if (names[n].kind == 's') *(const char **)names[n].where = argv[i + 1];
        else if (names[n].kind == 'i') *(int *)names[n].where = atoi(argv[i + 1]);
        else *(double *)names[n].where = atof(argv[i + 1]);
    }
    if (!opt.port || !opt.ca || !opt.cert || !opt.key) usage("--port --ca --cert --key are needed");
    if (opt.size < 40 || opt.size > 4000) usage("--size is 40 to 4000");
    if (opt.streams < 1 || opt.talkers < 1 || opt.links < opt.streams * opt.talkers) usage("more talkers than links");
    if (opt.links % opt.streams) usage("--links is a multiple of --streams");
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    read_options(argc, argv);
    if (!(dialect = dialect_named(opt.mode))) usage("--mode is ice, nats, mqtt or mumble");
    watch_pids(opt.pids);
    links_open();
    books_open();
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++)
        if (!strcmp(workloads[i].name, opt.workload)) {
            workloads[i].run();
            fflush(stdout);
            _Exit(0); /* two thousand links need no orderly end */
        }
    usage("--workload is flow, ramp, idle, storm or stall");
}
