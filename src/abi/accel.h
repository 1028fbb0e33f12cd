/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The contract between the accelerator's BPF programs (src/bpf/ac_*.bpf.h) and user space.
 *
 * All integers are in host byte order unless their type says otherwise. Every struct is a multiple of
 * eight bytes with its padding named, so that a map key or a record never carries unset bytes.
 * test/lint/check-abi compares the sizes with the BTF of the compiled object.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

/* Written into ac_ctl; user space refuses maps of another version (a different waggle's leftovers). */
#define AC_ABI_VERSION 5
#define AC_COMM_LEN 16
#define AC_PORTS 65536

/*
 * The key on which two sockets are paired: the first sequence number that the client will send and the
 * first that the server will send (both ISN + 1). The two ends of one connection, and nobody else off
 * the path, see the same pair of numbers.
 */
struct ac_key {
	__u32 client_seq;
	__u32 server_seq;
};

/* An executable file, as the kernel names it: the inode and the device (kernel encoding, s_dev). */
struct ac_exe_key {
	__u64 ino;
	__u32 dev;
	__u32 pad;
};

enum ac_exe_state {
	AC_EXE_LEARNING, /* watched on plain TCP */
	AC_EXE_RIPE,	 /* seen to read often enough; user space looks at the file and decides */
	AC_EXE_TRUSTED,	 /* reads by recv(2) and friends only, as far as it was seen: may be joined */
	AC_EXE_SPLICES,	 /* was seen to read a socket in a way that a joined one cannot honour */
	AC_EXE_UNFIT,	 /* was seen to use what a joined socket cannot honour (MSG_WAITALL, kTLS and the like) */
	AC_EXE_ABLE,	 /* its file can splice, and this kernel could not tell us in time: never joined */
	AC_EXE_SLEEPS,	 /* was seen asleep in a blocking recv(2), which a joined socket ends with EAGAIN at times */
	_AC_EXE_MAX,
};

struct ac_exe {
	__u32 state;		/* enum ac_exe_state; changed by compare-and-swap alone while programs run */
	__u32 reads;		/* times a watched socket's reader was seen to have advanced */
	__u32 polls;		/* times it was seen to wait otherwise than in recv(2), or unable to sleep there */
	__u32 forced;		/* named by --trust: may sleep */
	__u64 read_ns;		/* CLOCK_MONOTONIC, the first of these reads */
	char comm[AC_COMM_LEN]; /* name of the task that was met first; for people */
};

/*
 * Why two local sockets are not joined, or why a direction of a joined pair goes by TCP. One list for
 * the enum, the word in JSON, metrics and the man page, and the sentence for people.
 */
#define AC_WHY_LIST(X)                                                                                       \
	X(NONE, "none", "nothing speaks against joining")                                                    \
	X(LEARNING, "learning", "a program of the pair is still watched on plain TCP")                       \
	X(SPLICES, "splices", "a program of the pair reads sockets by splice(2)")                            \
	X(UNFIT, "unfit", "a program of the pair uses MSG_WAITALL, MSG_OOB, SO_RCVLOWAT, kTLS or the like")  \
	X(SLEEPS, "blocking-recv", "a program of the pair sleeps in recv(2), which joined would see EAGAIN") \
	X(MAY_SPLICE, "may-splice", "a program of the pair could splice, and this kernel cannot tell")       \
	X(BRIEF, "brief", "connections to this listener are mostly too short to gain; joined if it lasts")   \
	X(UNKNOWN_EXE, "unknown-program", "the program that owns a socket is not known")                     \
	X(PORT, "port", "the port is excluded or not selected")                                              \
	X(KERNEL, "kernel-socket", "the kernel itself owns a socket")                                        \
	X(MPTCP, "mptcp", "a socket is a subflow of MPTCP")                                                  \
	X(ULP, "ulp", "a socket has an upper-layer protocol such as kTLS")                                   \
	X(REPAIR, "repair", "the connection was not made by a handshake (TCP_REPAIR)")                       \
	X(DUPLICATE, "duplicate", "two handshakes had the same sequence numbers")                            \
	X(FULL, "map-full", "the table of joined sockets is full")                                           \
	X(BUSY, "busy", "another program already holds the socket in its own sockmap")                       \
	X(OFF, "off", "waggle is leaving")                                                                   \
	X(SMALL, "small-writes", "a side streams small writes, which TCP puts together; tried again later")  \
	X(NO_PEER, "no-peer", "the peer has not been paired yet, or its record was lost")                    \
	X(PEER_GONE, "peer-gone", "the peer's socket is closed")                                             \
	X(SHUT, "shut-down", "a side was shut down: TCP reports it to the program")                          \
	X(BACKLOG, "backlog", "the peer has not read enough of what is queued")                              \
	X(IN_FLIGHT, "in-flight", "bytes sent by TCP have not all arrived yet")                              \
	X(UNREAD_TCP, "unread-tcp", "the peer has bytes in TCP's own queue")                                 \
	X(SLEEPER, "reader-asleep", "a reader sleeps in recv(2), so the socket cannot be moved")             \
	X(POLICY, "policy", "a policy that has changed denies the connection")

enum ac_why {
#define X(id, word, text) AC_WHY_##id,
	AC_WHY_LIST(X)
#undef X
		_AC_WHY_MAX,
};

/* Counters of what happened, one per CPU each. The same words in JSON and metrics. */
#define AC_STAT_LIST(X)                                                                                   \
	X(ANNOUNCED, "announced", "connection requests seen by a local listener in scope")                \
	X(REMOTE, "remote", "connections made to a peer elsewhere: never touched")                        \
	X(LOCAL, "local", "connections whose both ends are in scope")                                     \
	X(JOINED, "joined", "pairs joined when they were established")                                    \
	X(JOINED_LATE, "joined_late", "sockets joined while their connection was live")                   \
	X(LEFT, "left", "sockets taken out while their connection was live")                              \
	X(FALLBACK, "fallback", "times a direction went back to TCP")                                     \
	X(RETURN, "return", "times a direction came back from TCP")                                       \
	X(PEND_LOST, "pend_lost", "handshakes whose record was gone: SYN cookies, or a full table")       \
	X(BRIEF, "brief", "pairs not joined at once because their listener's connections are short")      \
	X(LASTS, "lasts", "brief connections that turned out to last, and so are joined late")            \
	X(POISONED, "poisoned", "handshakes refused for duplicate numbers")                               \
	X(MAP_FULL, "map_full", "sockets not joined because a table was full")                            \
	X(BUSY, "busy", "sockets not joined because another sockmap holds them")                          \
	X(SPLICE_LATE, "splice_late", "joined sockets whose reader was caught splicing")                  \
	X(UNFIT_LATE, "unfit_late", "joined sockets taken out for how their program uses them")           \
	X(SLEEP_LATE, "sleep_late", "joined pairs taken out because a reader was seen asleep in recv(2)") \
	X(SMALL, "small_writes", "pairs taken out because a side streams small writes")                   \
	X(RESET, "reset", "connections reset because their reader spliced too late to put right")         \
	X(EVENT_LOST, "event_lost", "trace events dropped because nobody read fast enough")

enum ac_stat {
#define X(id, word, text) AC_STAT_##id,
	AC_STAT_LIST(X)
#undef X
		_AC_STAT_MAX,
};

/* What is seen of one socket whose peer is local: the value of the socket-local storage ac_sk. */
enum ac_sock_state {
	AC_SOCK_NEW,	 /* nothing known: of an earlier connection, connect() was called again */
	AC_SOCK_WATCHED, /* on plain TCP; .why says why */
	AC_SOCK_JOINED,	 /* in ac_socks */
	_AC_SOCK_STATE_MAX,
};

struct ac_sock {
	__u64 cookie;
	__u64 listener;	   /* cookie of the server's listener; 0 at the client */
	__u64 self;	   /* address of the own tcp_sock; read-only, never trusted without the cookie */
	__u64 peer;	   /* address of the peer's tcp_sock, 0 until it is known */
	__u64 peer_cookie; /* its identity, compared at each use */
	struct ac_exe_key exe;
	struct ac_exe_key peer_exe;
	struct ac_key key;
	__u64 born_ns;
	__u64 joined_bytes; /* sent to the peer's queue directly */
	__u64 joined_sends;
	__u64 tcp_bytes; /* sent by TCP: in records of ac_dump only */
	__u64 tcp_sends;
	__u64 fallbacks;
	__u64 task;	/* the task that sends while the socket is to leave: its address, never followed */
	__u32 read_seq; /* copied_seq when the reader was last seen */
	__u8 is_server;
	__u8 state;	  /* enum ac_sock_state */
	__u8 why;	  /* enum ac_why: why it is not joined */
	__u8 tx_why;	  /* enum ac_why: why the last send went by TCP; NONE: it went directly */
	__u8 peer_forced; /* the peer's program may sleep in recv(2) */
	__u8 small;	  /* looks in a row that found it streaming small writes */
	__u8 again;	  /* times it was taken out for that */
	__u8 trip_turn;	  /* low bits of ac_ctl.trip_turn, when it was looked at last */
	__u32 replies;	  /* how often the peer had sent when it was looked at last */
	__u32 since_ms;	  /* CLOCK_MONOTONIC, when it was taken out for that */
	__u32 trip_sends; /* client: how often its server had sent at trip_ns; server: looks for one, in this turn */
	__u64 trip_ns;	  /* client: CLOCK_MONOTONIC, its last send that is sampled; 0: none */
	__u64 peer_st;	  /* address of the peer's struct ac_sock, 0 until it is known; valid while the peer is */
};

/* A handshake between the listener's SYN-ACK and the server's ESTABLISHED. */
struct ac_pend {
	struct ac_exe_key server_exe;
	struct ac_exe_key client_exe;
	__u64 client;	     /* address of the client's tcp_sock */
	__u64 client_cookie; /* 0 until ACTIVE_ESTABLISHED */
	__u64 client_st;     /* address of its struct ac_sock */
	__u64 listener;	     /* its cookie */
	__u32 pad;
	__u8 poisoned;
	__u8 why; /* the verdict at ACTIVE_ESTABLISHED; NONE: the client is in ac_socks; NO_PEER: it is not there yet */
	__u8 brief; /* the listener's connections are mostly short */
	__u8 pad2;
};

/*
 * A handshake's place is the server's number modulo this, a power of two. Few enough to stay in a processor's cache: with
 * eight times as many a short connection took 0.4 us longer.
 */
#define AC_PEND_PLACES (1 << 11)
#define AC_PEND_WAYS 4

/* The value of ac_pend: the handshakes of one place. */
struct ac_pends {
	struct bpf_spin_lock lock;
	__u32 pad;
	__u32 born[AC_PEND_WAYS]; /* 2^20 ns, CLOCK_MONOTONIC; 0: this way is free */
	struct ac_key key[AC_PEND_WAYS];
	struct ac_pend of[AC_PEND_WAYS];
};

/* A listener: the value of ac_listen, keyed by its cookie. */
struct ac_listener {
	struct ac_exe_key exe;
	__u32 brief; /* 0 to AC_BRIEF_MAX: how short its connections have been of late */
	__u32 pad;
};

#define AC_BRIEF_MAX 256

/* What the client still has to learn of its server: the value of ac_peers, keyed by client cookie. */
struct ac_peer {
	__u64 server;
	__u64 server_cookie;
	__u64 server_st; /* address of its struct ac_sock */
};

/*
 * The one entry of ac_ctl: written by user space through mmap, read by every program. The first two fields and
 * the owner stay where they are in every version, so that any waggle can switch off what a dead one left.
 */
struct ac_ctl {
	__u32 version; /* AC_ABI_VERSION */
	__u32 on;      /* 0: nothing new is joined, and every send goes by TCP */
	__u32 trace;   /* events that are wanted: 1 << enum ac_event_type */
	__u32 odd;     /* ac_odd may hold something */
	__u32 select;  /* 1: only ports marked AC_PORT_ONLY are joined */
	__u32 exclude; /* 1: there are ports marked AC_PORT_EXCLUDE */
	__u64 owner_pid;
	__u64 owner_start; /* field 22 of /proc/PID/stat: tells a reused pid */
	__u64 limit_bytes; /* upper bound of what waits at a reader before its writer falls back */
	__u32 trips_left;  /* round trips: how many more may be sampled in this turn; counted down by the programs */
	__u32 trip_turn;   /* counted up now and then by user space; 0: none are sampled */
};

/*
 * How long answers took on joined pairs, sampled: value of ac_trips, per CPU. Bucket i counts those of less than 2^i us, and not
 * less than half of that; the last one all that took longer.
 */
#define AC_TRIP_BUCKETS 28
#define AC_TRIP_MAX_NS (1000ULL << (AC_TRIP_BUCKETS - 2))

struct ac_trips {
	__u64 buckets[AC_TRIP_BUCKETS];
	__u64 sum_ns;
	__u64 pad;
};

/* A joined socket that is to leave: the value of ac_odd, keyed by its cookie. */
struct ac_odd {
	__u32 why; /* enum ac_why */
	__u32 ms;  /* CLOCK_MONOTONIC, when it was found */
};

/* What user space has decided of an executable: the context of ac_decide. */
struct ac_decision {
	struct ac_exe_key key;
	__u32 from, to; /* enum ac_exe_state: written only if it is still what was decided upon */
	__u32 done;	/* out: 1 if it was */
	__u32 pad;
};

#define AC_PORT_ONLY 1	  /* --port */
#define AC_PORT_EXCLUDE 2 /* --exclude-port */

enum ac_event_type {
	AC_EVENT_ESTABLISHED, /* a local pair; .why NONE: joined */
	AC_EVENT_JOINED,      /* one socket, while its connection was live */
	AC_EVENT_LEFT,
	AC_EVENT_FALLBACK, /* a direction went to TCP; .why says why */
	AC_EVENT_RETURN,   /* it came back */
	AC_EVENT_LEARNED,  /* an executable changed its state, see .exe_state */
	AC_EVENT_ODD,	   /* a joined socket is used as it must not be: user space has to act */
	AC_EVENT_CLOSED,
	_AC_EVENT_MAX,
};

/* A record of the ring buffer ac_events. Addresses are those of the socket named by .cookie. */
struct ac_event {
	__u64 ns; /* CLOCK_MONOTONIC */
	__u64 cookie;
	__u64 peer_cookie;
	struct ac_exe_key exe;
	__u64 joined_bytes;
	__u64 tcp_bytes;
	__u32 local_addr[4];  /* network order; IPv4 in the first word */
	__u32 remote_addr[4]; /* network order */
	__u16 local_port;
	__u16 remote_port;
	__u16 family; /* AF_INET, AF_INET6 */
	__u8 type;    /* enum ac_event_type */
	__u8 why;     /* enum ac_why */
	__u32 netns;  /* inode number */
	__u8 is_server;
	__u8 exe_state;
	__u8 pad[2];
	char comm[AC_COMM_LEN]; /* name of the program, if it is known */
};

/* A record that the iterator ac_dump writes for each entry of ac_sk. */
struct ac_sock_dump {
	struct ac_sock sock;
	__u64 inode;  /* of the socket file, 0 while it is not accepted */
	__u64 cgroup; /* id of its cgroup v2 */
	__u32 netns;
	__u32 tcp_state;
	__u32 local_addr[4];
	__u32 remote_addr[4];
	__u16 local_port;
	__u16 remote_port;
	__u16 family;
	__u8 in_map;
	__u8 pad;
	__u32 rmem_bytes; /* waiting to be read */
	__u32 rcvbuf_bytes;
};

/* What the iterator ac_move shall do with the sockets of one network namespace. */
enum ac_move_mode {
	AC_MOVE_JOIN,  /* join watched sockets whose programs have earned it */
	AC_MOVE_LEAVE, /* take out every socket that has nothing queued and no reader asleep */
	AC_MOVE_ODD,   /* take out the sockets in ac_odd, or reset them where that is too late */
};

/* The orders for a walk of ac_move. */
struct ac_move_args {
	__u32 mode;	 /* enum ac_move_mode */
	__u32 commit;	 /* AC_MOVE_JOIN: 0 marks who is fit, 1 joins the pairs of which both ends are */
	__u32 impatient; /* AC_MOVE_LEAVE: a peer that has been in a call for long is not on its way to us */
	__u32 pad;
};

/* The values of ac_ready. */
enum ac_ready_state {
	AC_READY = 1,	    /* fit in the present walk */
	AC_READY_ALONE = 2, /* its peer has been joined already: as soon as it is fit */
};

/* A record that ac_move writes for each socket it could not settle, and why. */
struct ac_move_left {
	__u64 cookie;
	__u32 why; /* enum ac_why */
	__u32 queued;
};

/* A record that the iterator ac_walk_exes writes for each process: which executable it runs. */
struct ac_task_exe {
	struct ac_exe_key exe;
	__u32 pid;
	__u32 pad;
};

_Static_assert(sizeof(struct ac_exe_key) == 16, "key without holes");
_Static_assert(sizeof(struct ac_exe) == 40, "value without holes");
_Static_assert(sizeof(struct ac_sock) == 176, "value without holes");
_Static_assert(sizeof(struct ac_pend) == 72, "value without holes");
_Static_assert(sizeof(struct ac_pends) == 56 + AC_PEND_WAYS * 72, "value without holes");
_Static_assert(sizeof(struct ac_ctl) == 56, "value without holes");
_Static_assert(sizeof(struct ac_event) == 120, "record without holes");
_Static_assert(sizeof(struct ac_sock_dump) % 8 == 0, "record without holes");
