/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the place of libbpf's, so that programs of src/bpf compile for user space: maps become memory, and helpers
 * functions of the fuzzer. Only what the packet hook uses.
 */
#pragma once

#include <linux/bpf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#undef __always_inline
#undef __noinline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define SEC(name)
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]
#define barrier() __asm__ volatile("" ::: "memory")
#define barrier_var(var) __asm__ volatile("" : "+r"(var))

/* What the declaration of a map says, as numbers. */
struct shim_type {
	unsigned int type, entries, key, value;
};
#define SHIM_OF(map)                                                                                        \
	((struct shim_type){ sizeof(*(map)->type) / sizeof(int), sizeof(*(map)->max_entries) / sizeof(int), \
			     sizeof(*(map)->key), sizeof(*(map)->value) })

void *shim_lookup(const void *map, struct shim_type type, const void *key);
long shim_update(const void *map, struct shim_type type, const void *key, const void *value);
#define bpf_map_lookup_elem(map, key) shim_lookup((map), SHIM_OF(map), (key))
#define bpf_map_update_elem(map, key, value, flags) shim_update((map), SHIM_OF(map), (key), (value))

/* Returns what the next program does; a tail call does not come back. */
int shim_tail_call(void *ctx, unsigned int index);
#define bpf_tail_call(ctx, map, index) return shim_tail_call((ctx), (index))

uint64_t bpf_jiffies64(void);
uint32_t bpf_get_prandom_u32(void);
long bpf_redirect(uint32_t ifindex, uint64_t flags);
long bpf_fib_lookup(void *ctx, struct bpf_fib_lookup *params, int len, uint32_t flags);
long bpf_xdp_adjust_head(struct xdp_md *ctx, int delta);
long bpf_xdp_adjust_tail(struct xdp_md *ctx, int delta);
uint64_t bpf_xdp_get_buff_len(struct xdp_md *ctx);
long bpf_loop(uint32_t n, void *fn, void *data, uint64_t flags);
struct bpf_sock *bpf_skc_lookup_tcp(void *ctx, struct bpf_sock_tuple *tuple, uint32_t len, uint64_t netns,
				    uint64_t flags);
long bpf_sk_release(void *sk);
int64_t bpf_tcp_raw_gen_syncookie_ipv4(void *ip, void *tcp, uint32_t len);
int64_t bpf_tcp_raw_gen_syncookie_ipv6(void *ip, void *tcp, uint32_t len);
long bpf_tcp_raw_check_syncookie_ipv4(void *ip, void *tcp);
long bpf_tcp_raw_check_syncookie_ipv6(void *ip, void *tcp);

/* Of TC. */
long bpf_skb_pull_data(struct __sk_buff *ctx, uint32_t len);
long bpf_skb_change_tail(struct __sk_buff *ctx, uint32_t len, uint64_t flags);
long bpf_skb_adjust_room(struct __sk_buff *ctx, int delta, uint32_t mode, uint64_t flags);
long bpf_skb_vlan_pop(struct __sk_buff *ctx);
long bpf_l4_csum_replace(struct __sk_buff *ctx, uint32_t off, uint64_t from, uint64_t to, uint64_t flags);
int64_t bpf_csum_update(struct __sk_buff *ctx, uint32_t sum);
long bpf_clone_redirect(struct __sk_buff *ctx, uint32_t ifindex, uint64_t flags);
long bpf_redirect_neigh(uint32_t ifindex, struct bpf_redir_neigh *params, int len, uint64_t flags);
