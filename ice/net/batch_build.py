"""The compiled half of :mod:`ice.net.batch`: built by ``pip install`` where a C compiler is, done without where none is.

It links against nothing but the C library.  ``recvmmsg`` and ``sendmmsg`` are Linux's (recvmmsg(2), sendmmsg(2)).  cffi lets go of the GIL during a call; one thread
only receives and sends, so there is one room for what was taken last.
"""

import cffi

SLOTS = 64  # datagrams that one call takes or gives
SLOT = 65_536  # bytes of room for each: the largest datagram, one more byte to see that one is longer, rounded up to pages
NAME = 18  # bytes of a sender: port, then an IPv4 or an IPv6 address, in network order

_SHARED = f"""
    typedef struct {{
        int count;              /* datagrams in the room */
        int odd;                /* of these: empty, or longer than wanted (their size is -1) */
        int elsewhere;          /* of another interface, thrown away */
        int failed;             /* errno that ended it, 0 where there was merely nothing more */
        int told;               /* `dropped` was told */
        unsigned dropped;       /* so far, by the kernel, for want of room (SO_RXQ_OVFL) */
        int name_size;          /* of each sender */
        int at[{SLOTS}];        /* where each datagram begins in the room */
        int sizes[{SLOTS}];
    }} ice_taken;

    typedef struct {{
        int sent;               /* datagrams that the kernel took */
        int failed;             /* datagrams that it did not take: an errno for each below */
        int bytes;              /* of those that it took */
        int errors[{SLOTS}];
    }} ice_given;
"""

ffibuilder = cffi.FFI()

ffibuilder.cdef(
    _SHARED
    + f"""
    extern char ice_datagrams[{SLOTS * SLOT}];
    extern char ice_senders[{SLOTS * NAME}];
    extern ice_taken ice_last;
    extern ice_given ice_went;

    int ice_take(int fd, int limit, int longest, int interface);
    int ice_give(int fd, const char *data, const int *sizes, int count, const char *name, int name_size);
    """
)

ffibuilder.set_source(
    "ice.net._batch",
    """
    #include <errno.h>
    #include <netinet/in.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/socket.h>
    """
    f"""
    #define SLOTS {SLOTS}
    #define SLOT {SLOT}
    #define NAME {NAME}
    """
    + _SHARED
    + r"""
    char ice_datagrams[SLOTS * SLOT];
    char ice_senders[SLOTS * NAME];
    ice_taken ice_last;
    ice_given ice_went;

    static struct mmsghdr taking[SLOTS], giving[SLOTS];
    static struct iovec rooms[SLOTS], parts[SLOTS];
    static struct sockaddr_in6 names[SLOTS];   /* the larger of the two families */
    static union { char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(uint32_t))]; struct cmsghdr align; } beside[SLOTS];

    /* What the kernel says beside a datagram: whether it is of the wanted interface (0: of any). */
    static int wanted(struct msghdr *head, int interface)
    {
        struct cmsghdr *each;
        int here = 1;
        for (each = CMSG_FIRSTHDR(head); each; each = CMSG_NXTHDR(head, each)) {
            if (each->cmsg_level == SOL_SOCKET && each->cmsg_type == SO_RXQ_OVFL && each->cmsg_len >= CMSG_LEN(sizeof(uint32_t))) {
                memcpy(&ice_last.dropped, CMSG_DATA(each), sizeof(uint32_t));
                ice_last.told = 1;
            } else if (interface && each->cmsg_level == IPPROTO_IPV6 && each->cmsg_type == IPV6_PKTINFO
                       && each->cmsg_len >= CMSG_LEN(sizeof(struct in6_pktinfo))) {
                struct in6_pktinfo said;
                memcpy(&said, CMSG_DATA(each), sizeof said);
                here = said.ipi6_ifindex == 0 || (int)said.ipi6_ifindex == interface;
            }
        }
        return here;
    }

    /* Take what waits at a socket, at most `limit` datagrams, without waiting for any. How many are in the room is returned. */
    static int ice_take(int fd, int limit, int longest, int interface)
    {
        int got, n, kept = 0;
        if (limit > SLOTS)
            limit = SLOTS;
        if (limit < 0)
            limit = 0;
        if (longest < 0 || longest >= SLOT)
            longest = SLOT - 1;
        ice_last.odd = ice_last.elsewhere = ice_last.failed = ice_last.told = 0;
        for (n = 0; n < limit; n++) {
            struct msghdr *head = &taking[n].msg_hdr;
            rooms[n].iov_base = ice_datagrams + n * SLOT;
            rooms[n].iov_len = longest + 1;
            head->msg_name = &names[n];
            head->msg_namelen = sizeof names[n];
            head->msg_iov = &rooms[n];
            head->msg_iovlen = 1;
            head->msg_control = beside[n].bytes;
            head->msg_controllen = sizeof beside[n].bytes;
            head->msg_flags = 0;
        }
        got = recvmmsg(fd, taking, limit, MSG_DONTWAIT, NULL);
        if (got < 0) {
            ice_last.failed = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : errno;
            got = 0;
        }
        for (n = 0; n < got; n++) {
            struct msghdr *head = &taking[n].msg_hdr;
            char *name = ice_senders + kept * NAME;
            int size = (int)taking[n].msg_len;
            if (head->msg_controllen && !wanted(head, interface)) {
                ice_last.elsewhere++;
                continue;
            }
            if (names[n].sin6_family == AF_INET) {
                struct sockaddr_in *four = (struct sockaddr_in *)&names[n];
                memcpy(name, &four->sin_port, 2);
                memcpy(name + 2, &four->sin_addr, 4);
                ice_last.name_size = 6;
            } else {
                memcpy(name, &names[n].sin6_port, 2);
                memcpy(name + 2, &names[n].sin6_addr, 16);
                ice_last.name_size = 18;
            }
            if (size > longest || head->msg_flags & MSG_TRUNC)
                size = -1;
            ice_last.odd += size <= 0;
            ice_last.at[kept] = n * SLOT;
            ice_last.sizes[kept] = size;
            kept++;
        }
        return ice_last.count = kept;
    }

    /* Give `count` datagrams, which stand one behind the other in `data`, to the kernel for one destination. What one is refused for
       does not keep the next from being tried, but a full socket does: the rest would be refused for the same. */
    static int ice_give(int fd, const char *data, const int *sizes, int count, const char *name, int name_size)
    {
        int n, done = 0;
        if (count > SLOTS)
            count = SLOTS;
        ice_went.sent = ice_went.failed = ice_went.bytes = 0;
        for (n = 0; n < count; n++) {
            struct msghdr *head = &giving[n].msg_hdr;
            memset(head, 0, sizeof *head);
            parts[n].iov_base = (void *)data;
            parts[n].iov_len = (size_t)sizes[n];
            data += sizes[n];
            head->msg_name = (void *)name;
            head->msg_namelen = (socklen_t)name_size;
            head->msg_iov = &parts[n];
            head->msg_iovlen = 1;
        }
        while (done < count) {
            int went = sendmmsg(fd, giving + done, (unsigned)(count - done), MSG_DONTWAIT);
            if (went > 0) {
                ice_went.sent += went;
                for (; went; went--)
                    ice_went.bytes += sizes[done++];
                continue;
            }
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK) {
                while (done++ < count)
                    ice_went.errors[ice_went.failed++] = EAGAIN;
                break;
            }
            ice_went.errors[ice_went.failed++] = errno;
            done++;
        }
        return ice_went.sent;
    }
    """,
    extra_compile_args=["-O2"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
