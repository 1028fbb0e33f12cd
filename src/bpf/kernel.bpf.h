/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's structures, as far as waggle reads them: only the fields used, relocated at load (CO-RE).
 * Declared by hand instead of a generated vmlinux.h, so that a reader sees what we depend on.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define AF_INET 2
#define AF_INET6 10
#define TCP_LISTEN 10
#define RCV_SHUTDOWN 1
#define SEND_SHUTDOWN 2
#define TCPHDR_SYN 0x02
#define TCPHDR_ACK 0x10

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__s64 counter;
} atomic64_t;

struct list_head {
	struct list_head *next, *prev;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
	unsigned long skc_flags;   /* of a full socket */
	struct sock *skc_listener; /* of a request socket */
};

struct sk_buff_head {
	__u32 qlen;
};

struct super_block {
	__u32 s_dev;
};

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
};

struct file {
	struct inode *f_inode;
	unsigned int f_flags;
};

struct socket {
	enum {
		SS_FREE,
		SS_UNCONNECTED,
		SS_CONNECTING,
		SS_CONNECTED,
	} state;
	struct file *file;
	struct sock *sk;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct wait_queue_head {
	struct list_head head;
};

struct wait_queue_entry {
	void *func;
	struct list_head entry;
};

struct socket_wq {
	struct wait_queue_head wait;
};

struct sock {
	struct sock_common __sk_common;
	struct sk_buff_head sk_receive_queue;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
	int sk_rcvbuf;
	int sk_rcvlowat;
	struct socket_wq *sk_wq;
	struct {
		int owned;
		struct wait_queue_head wq;
	} sk_lock;
	int sk_write_pending;
	__u8 sk_kern_sock : 1;
	__u8 sk_shutdown;
	struct socket *sk_socket;
	void *sk_user_data;
	struct sock_cgroup_data sk_cgrp_data;
};

struct inet_sock {
	struct sock sk;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	const void *icsk_ulp_ops;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u32 rcv_wup;
	__u32 rcv_wnd;
	__u32 write_seq;
	__u32 snd_nxt;
	__u32 packets_out;
	__u32 notsent_lowat;
	__u32 data_segs_out;
	__u8 nonagle : 4;
	__u64 tcp_mstamp; /* us, CLOCK_MONOTONIC, of the last packet */
	__u64 bytes_sent;
	__u64 bytes_retrans;
	bool is_mptcp;
};

struct request_sock {
	struct sock_common __req_common;
};

struct tcp_request_sock {
	__u32 rcv_isn;
	__u32 snt_isn;
	bool is_mptcp;
};

struct sk_psock {
	struct sk_buff_head ingress_skb;
	struct list_head ingress_msg;
	struct {
		struct {
			int counter;
		} refs;
	} refcnt;
};

struct sk_msg_sg {
	__u32 size;
};

struct sk_msg {
	struct sk_msg_sg sg;
	struct sock *sk; /* set on what TCP received itself */
	struct list_head list;
};

struct bpf_sock_ops_kern {
	struct sock *sk;
};

struct mm_struct {
	struct file *exe_file;
};

struct task_struct {
	struct mm_struct *mm;
	int pid;
	int tgid;
	char comm[16];
};

struct pt_regs {
	unsigned long orig_ax;	 /* x86: number of the system call */
	unsigned long syscallno; /* arm64 */
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
	unsigned int uid;
};

#pragma clang attribute pop

enum sock_flags {
	SOCK_URGINLINE,
	SOCK_ZEROCOPY,
};

/* Reads through an untrusted pointer as if it were trusted BTF (kernel 6.2): a plain load that cannot fault. */
extern void *bpf_rdonly_cast(void *obj, __u32 btf_id) __ksym __weak;
/* Aborts a connection from an iterator that holds its lock (kernel 6.5). */
extern int bpf_sock_destroy(struct sock_common *sk) __ksym __weak;
/* The wake-up function of everyone who sleeps in a blocking socket call; only its address matters. */
extern const void woken_wake_function __ksym __weak;

/* sk_user_data carries flags in its low bits (SK_USER_DATA_PTRMASK). */
#define SK_USER_DATA_PTRMASK (~7UL)
