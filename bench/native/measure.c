/* Clocks, histograms, and what the kernel says of a process. */
#include "load.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

void hist_clear(struct hist *h) { memset(h, 0, sizeof *h); }

void hist_add(struct hist *h, uint64_t ns) {
    size_t at = ns;
    if (ns >= HIST_SUB) {
        int power = 63 - __builtin_clzll(ns); /* 6 and up */
        at = (size_t)(power - 5) * HIST_SUB + ((ns >> (power - 6)) & (HIST_SUB - 1));
    }
    h->bucket[at < HIST_SIZE ? at : HIST_SIZE - 1]++;
    h->count++;
    h->sum += (double)ns;
    if (ns > h->most) h->most = ns;
}

double hist_ms(const struct hist *h, double share) {
    if (!h->count) return 0;
    uint64_t rank = (uint64_t)(share * (double)h->count), seen = 0;
    if (rank >= h->count) rank = h->count - 1;
    for (size_t at = 0; at < HIST_SIZE; at++) {
        seen += h->bucket[at];
        if (seen <= rank) continue;
        if (at < HIST_SUB) return (double)at / MS;
        size_t power = at / HIST_SUB + 5;
        double low = (double)(HIST_SUB + at % HIST_SUB) * (double)(1ULL << (power - 6));
        return low * (1 + 0.5 / HIST_SUB) / MS;
    }
    return (double)h->most / MS;
}

void hist_json(const char *name, const struct hist *h) {
    printf(",\"%s\":{\"count\":%llu,\"mean\":%.4f,\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"p999\":%.4f,\"max\":%.4f}", name,
           (unsigned long long)h->count, h->count ? h->sum / (double)h->count / MS : 0, hist_ms(h, .5), hist_ms(h, .9),
           hist_ms(h, .99), hist_ms(h, .999), (double)h->most / MS);
}

/* ---- /proc ---- */

static int pids[64], pid_count;

static void watch(int pid) {
    char path[64];
    if (pid_count == 64) return;
    pids[pid_count++] = pid;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    FILE *f = fopen(path, "r");
    if (!f) return;
    for (int child; fscanf(f, "%d", &child) == 1;) watch(child);
    fclose(f);
}

void watch_pids(const char *list) {
    for (const char *at = list; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) watch(atoi(at));
}

static void schedstat(const char *path, uint64_t *ran, uint64_t *waited) {
    unsigned long long a = 0, b = 0;
    FILE *f = fopen(path, "r");
    if (!f) return; /* the thread has just ended */
    if (fscanf(f, "%llu %llu", &a, &b) == 2) {
        *ran += a;
        *waited += b;
    }
    fclose(f);
}

static void server_times(uint64_t *ran, uint64_t *waited) {
    *ran = *waited = 0;
    for (int i = 0; i < pid_count; i++) {
        char path[320];
        snprintf(path, sizeof path, "/proc/%d/task", pids[i]);
        DIR *d = opendir(path);
        if (!d) continue;
        for (struct dirent *e; (e = readdir(d));) {
            if (e->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pids[i], e->d_name);
            schedstat(path, ran, waited);
        }
        closedir(d);
    }
}

uint64_t server_cpu_ns(void) {
    uint64_t ran, waited;
    server_times(&ran, &waited);
    return ran;
}

double server_pss_kib(void) {
    double total = 0;
    for (int i = 0; i < pid_count; i++) {
        char path[64], line[200];
        unsigned long kib;
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pids[i]);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        while (fgets(line, sizeof line, f))
            if (sscanf(line, "Pss: %lu", &kib) == 1) total += (double)kib;
        fclose(f);
    }
    return total;
}

static uint64_t stolen_ns(void) {
    unsigned long long user, nice, system, idle, iowait, irq, softirq, steal = 0;
    FILE *f = fopen("/proc/stat", "r");
    if (!f) return 0;
    if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &iowait, &irq, &softirq,
               &steal) != 8)
        steal = 0;
    fclose(f);
    return steal * (SECOND / (uint64_t)sysconf(_SC_CLK_TCK));
}

struct usage usage_now(void) {
    struct usage u = {0};
    server_times(&u.server, &u.server_waited);
    schedstat("/proc/self/schedstat", &u.own, &u.own_waited);
    u.stolen = stolen_ns();
    u.at = now_ns();
    return u;
}
