/* What forwarding of datagrams costs that does nothing else, and the traffic to find out.
 *
 *   reflect loop IN OUT GROUP:PORT [IN OUT GROUP:PORT ...]          one recvmsg and one sendto per datagram
 *   reflect many IN OUT GROUP:PORT [...]                            the same with recvmmsg and sendmmsg
 *   reflect load RATE SECONDS SIZE NS IF NS IF GROUP:PORT [NS IF NS IF GROUP:PORT ...]
 *
 * loop and many: what comes to a group on one interface is sent to the same group on another, for as long as the program lives; "ready" is said when
 * it can begin. The sockets have the options of ice/net/multicast_options.py.
 *
 * load: sends RATE datagrams per second in all, of SIZE bytes, from the first namespace's interface and hears them on the second's, in turn on each of the ways,
 * with one clock and in one thread; NS is a name of `ip netns`, or - for this one. A line of JSON at the end. Datagrams that come within half a second after
 * the last was sent count. Each bears its number, the time it was due and a check of both, so that what is lost, doubled or spoiled is told apart, and a
 * generator that is late itself makes the latency longer and not shorter. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 32
#define ROOM 2048
#define WAYS 4
#define BUFFER (1 << 20)
#define AFTER_NS 500000000ull
#define IP_MULTICAST_ALL_ 49

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static struct sockaddr_in address(const char *text) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strrchr(text, ':');
    if (!colon || colon - text >= (int)sizeof host) die(text);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    at.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &at.sin_addr) != 1) die(text);
    return at;
}

static int hearing(struct sockaddr_in at, const char *interface, int buffer) {
    int one = 1, none = 0, fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct ip_mreqn member = {.imr_multiaddr = at.sin_addr, .imr_ifindex = (int)if_nametoindex(interface)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer)) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &one, sizeof one);
    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_ALL_, &none, sizeof none);
    if (bind(fd, (struct sockaddr *)&at, sizeof at)) die("bind");
    if (setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &member, sizeof member)) die("join");
    return fd;
}

static int talking(const char *interface) {
    int none = 0, hops = 8, buffer = 1 << 23, fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct ip_mreqn out = {.imr_ifindex = (int)if_nametoindex(interface)};
    if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof out)) die(interface);
    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &none, sizeof none);
    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &hops, sizeof hops);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
    return fd;
}

static void forward(int argc, char **argv, int many) {
    int ways = 0, from[WAYS], to[WAYS];
    struct sockaddr_in where[WAYS];
    struct pollfd watched[WAYS];
    static char room[BATCH][ROOM];
    struct iovec parts[BATCH];
    struct mmsghdr heads[BATCH];
    for (; argc >= 3 && ways < WAYS; argc -= 3, argv += 3, ways++) {
        where[ways] = address(argv[2]);
        from[ways] = hearing(where[ways], argv[0], BUFFER);
        to[ways] = talking(argv[1]);
        watched[ways] = (struct pollfd){.fd = from[ways], .events = POLLIN};
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        if (poll(watched, (nfds_t)ways, -1) < 0 && errno != EINTR) die("poll");
        for (int w = 0; w < ways; w++) {
            if (!(watched[w].revents & POLLIN)) continue;
            if (!many) {
                for (int n = 0; n < BATCH; n++) {
                    struct sockaddr_in sender;
                    char beside[64];
                    struct iovec part = {room[0], ROOM};
                    struct msghdr head = {.msg_name = &sender, .msg_namelen = sizeof sender, .msg_iov = &part, .msg_iovlen = 1, .msg_control = beside, .msg_controllen = sizeof beside};
                    ssize_t got = recvmsg(from[w], &head, 0);
                    if (got < 0) break;
                    sendto(to[w], room[0], (size_t)got, 0, (struct sockaddr *)&where[w], sizeof where[w]);
                }
                continue;
            }
            memset(heads, 0, sizeof heads);
            for (int n = 0; n < BATCH; n++) {
                parts[n] = (struct iovec){room[n], ROOM};
                heads[n].msg_hdr.msg_iov = &parts[n];
                heads[n].msg_hdr.msg_iovlen = 1;
            }
            int got = recvmmsg(from[w], heads, BATCH, MSG_DONTWAIT, NULL);
            for (int n = 0; n < got; n++) {
                parts[n].iov_len = heads[n].msg_len;
                heads[n].msg_hdr.msg_name = &where[w];
                heads[n].msg_hdr.msg_namelen = sizeof where[w];
                heads[n].msg_hdr.msg_flags = 0;
            }
            for (int done = 0; done < got;) {
                int went = sendmmsg(to[w], heads + done, (unsigned)(got - done), 0);
                done += went > 0 ? went : 1;
            }
        }
    }
}

/* -- load ------------------------------------------------------------------------------------------------------------ */

struct payload { /* after 12 bytes of RTP header */
    uint64_t number, due_ns, check;
};

#define STEPS 4096 /* of the histogram: 1/16 of a power of two of nanoseconds */
static uint64_t histogram[STEPS], measured;

static int step_of(uint64_t ns) {
    int high = 63 - __builtin_clzll(ns | 16);
    return (high - 4) * 16 + (int)(ns >> (high - 4) & 15);
}

static double percentile_us(double share) {
    uint64_t wanted = (uint64_t)(share * (double)measured), seen = 0;
    for (int n = 0; n < STEPS; n++) {
        seen += histogram[n];
        if (seen > wanted) return (double)((16ull + (uint64_t)(n & 15)) << (n / 16)) / 1e3;
    }
    return 0;
}

static void enter(const char *name) {
    static int home = -1;
    char path[256];
    int fd;
    if (home < 0) home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (!strcmp(name, "-")) fd = dup(home);
    else {
        snprintf(path, sizeof path, "/run/netns/%s", name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0 || setns(fd, CLONE_NEWNET)) die(name);
    close(fd);
}

static void load(int argc, char **argv) {
    double rate = atof(argv[0]), seconds = atof(argv[1]);
    size_t size = (size_t)atoi(argv[2]);
    int ways = 0, from[WAYS], to[WAYS];
    struct sockaddr_in where[WAYS];
    if (size < 12 + sizeof(struct payload) || size > ROOM) die("size");
    for (argc -= 3, argv += 3; argc >= 5 && ways < WAYS; argc -= 5, argv += 5, ways++) {
        where[ways] = address(argv[4]);
        enter(argv[0]);
        from[ways] = talking(argv[1]);
        enter(argv[2]);
        to[ways] = hearing(where[ways], argv[3], 1 << 25);
    }
    enter("-");
    uint64_t total = (uint64_t)(rate * seconds), sent = 0, unsent = 0, received = 0, doubled = 0, spoiled = 0, worst = 0;
    uint8_t *seen = calloc(total / 8 + 1, 1);
    static char out[BATCH][ROOM], in[BATCH][ROOM];
    struct iovec out_parts[BATCH], in_parts[BATCH];
    struct mmsghdr out_heads[BATCH], in_heads[BATCH];
    memset(out_heads, 0, sizeof out_heads);
    uint64_t begin = now_ns() + 50000000ull, last = 0, ended = 0;
    double gap = 1e9 / rate;
    for (;;) {
        uint64_t now = now_ns();
        /* what is due, each way in turn */
        int w = (int)((sent / BATCH) % (uint64_t)ways), count = 0;
        uint64_t number = sent;
        if (ways > 1 && rate < 5000) w = (int)(sent % (uint64_t)ways);
        while (count < BATCH && number < total && begin + (uint64_t)((double)number * gap) <= now) {
            struct payload p = {number, begin + (uint64_t)((double)number * gap), 0};
            p.check = p.number * 0x9e3779b97f4a7c15ull ^ p.due_ns;
            char *at = out[count];
            memset(at, 0, 12);
            at[0] = (char)0x80;
            at[2] = (char)(number >> 8);
            at[3] = (char)number;
            uint32_t stamp = htonl((uint32_t)(number * 160));
            memcpy(at + 4, &stamp, 4);
            memcpy(at + 12, &p, sizeof p);
            out_parts[count] = (struct iovec){at, size};
            out_heads[count].msg_hdr.msg_iov = &out_parts[count];
            out_heads[count].msg_hdr.msg_iovlen = 1;
            out_heads[count].msg_hdr.msg_name = &where[w];
            out_heads[count].msg_hdr.msg_namelen = sizeof where[w];
            count++;
            number++;
            if (ways > 1 && (rate < 5000 || number % BATCH == 0)) break;
        }
        for (int done = 0; done < count;) {
            int went = sendmmsg(from[w], out_heads + done, (unsigned)(count - done), MSG_DONTWAIT);
            if (went <= 0) unsent++;
            done += went > 0 ? went : 1;
        }
        sent += (uint64_t)count;
        if (sent >= total && !ended) ended = now_ns();
        /* what has come */
        int any = 0;
        for (int v = 0; v < ways; v++) {
            memset(in_heads, 0, sizeof in_heads);
            for (int n = 0; n < BATCH; n++) {
                in_parts[n] = (struct iovec){in[n], ROOM};
                in_heads[n].msg_hdr.msg_iov = &in_parts[n];
                in_heads[n].msg_hdr.msg_iovlen = 1;
            }
            int got = recvmmsg(to[v], in_heads, BATCH, MSG_DONTWAIT, NULL);
            if (got > 0) now = now_ns();
            for (int n = 0; n < got; n++) {
                struct payload p;
                any = 1;
                memcpy(&p, in[n] + 12, sizeof p);
                if (in_heads[n].msg_len != size || p.check != (p.number * 0x9e3779b97f4a7c15ull ^ p.due_ns) || p.number >= total) {
                    spoiled++;
                    continue;
                }
                if (seen[p.number / 8] & 1 << p.number % 8) {
                    doubled++;
                    continue;
                }
                seen[p.number / 8] |= (uint8_t)(1 << p.number % 8);
                received++;
                uint64_t late = now > p.due_ns ? now - p.due_ns : 0;
                if (late > worst) worst = late;
                int step = step_of(late);
                histogram[step < STEPS ? step : STEPS - 1]++;
                measured++;
                last = now;
            }
        }
        if (ended && !any && (received + unsent >= total || now_ns() > ended + AFTER_NS)) break;
        if (!any && !count && rate < 40000) { /* nothing is due for a while: let whoever shares the core have it */
            struct pollfd watched[WAYS];
            for (int v = 0; v < ways; v++) watched[v] = (struct pollfd){.fd = to[v], .events = POLLIN};
            uint64_t due = begin + (uint64_t)((double)sent * gap), moment = now_ns();
            uint64_t wait = ended ? 1000000 : due > moment ? due - moment : 0;
            struct timespec nap = {0, (long)(wait < 1000000 ? wait : 1000000)};
            ppoll(watched, (nfds_t)ways, &nap, NULL);
        }
    }
    double took = (double)(ended - begin) / 1e9;
    printf("{\"offered_per_s\": %.0f, \"sent\": %llu, \"unsent\": %llu, \"received\": %llu, \"doubled\": %llu, \"spoiled\": %llu, "
           "\"sent_per_s\": %.0f, \"received_per_s\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
           rate, (unsigned long long)(sent - unsent), (unsigned long long)unsent, (unsigned long long)received, (unsigned long long)doubled,
           (unsigned long long)spoiled, (double)(sent - unsent) / took, last > begin ? (double)received / ((double)(last - begin) / 1e9) : 0.0,
           percentile_us(.5), percentile_us(.99), percentile_us(.999), (double)worst / 1e3);
}

int main(int argc, char **argv) {
    prctl(PR_SET_PDEATHSIG, 15);
    prctl(PR_SET_TIMERSLACK, 1000);
    if (argc >= 5 && !strcmp(argv[1], "loop")) forward(argc - 2, argv + 2, 0);
    else if (argc >= 5 && !strcmp(argv[1], "many")) forward(argc - 2, argv + 2, 1);
    else if (argc >= 10 && !strcmp(argv[1], "load")) load(argc - 2, argv + 2);
    else {
        fprintf(stderr, "reflect: loop|many IN OUT GROUP:PORT ... | load RATE SECONDS SIZE NS IF NS IF GROUP:PORT ...\n");
        return 2;
    }
    return 0;
}
