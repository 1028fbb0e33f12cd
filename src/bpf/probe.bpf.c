// SPDX-License-Identifier: GPL-2.0
/* For accel_probe(): the smallest joiner, to see what this kernel does with joined bytes and TCP's on one socket. */
#include "bpf/kernel.bpf.h"

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} probe_socks SEC(".maps");

__u32 probe_redirect; /* 1: sends go to socket 1 directly */

SEC("sk_msg")
int probe_msg(struct sk_msg_md *msg)
{
	if (probe_redirect)
		(void)bpf_msg_redirect_map(msg, &probe_socks, 1, BPF_F_INGRESS);
	return SK_PASS;
}

SEC("sk_skb")
int probe_skb(struct __sk_buff *skb)
{
	return SK_PASS;
}
