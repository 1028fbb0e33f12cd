// SPDX-License-Identifier: GPL-2.0
/*
 * Redirect: connections of a cgroup go to a local proxy, which is told by SO_ORIGINAL_DST where they wanted to go, and
 * questions of DNS go to a local resolver. No packet is rewritten, and nothing is kept but by the sockets themselves.
 * Policy is asked first, about what the program named.
 *
 *   rd_connect4,6      asks policy, and chooses the proxy, at connect()          rd_policy.bpf.h, rd_way.bpf.h
 *   rd_sockops         carries the destination to the proxy's accepted socket    rd_pair.bpf.h
 *   rd_getsockopt      tells the proxy
 *   rd_getpeer4,6      tells the client that it is where it wanted to go
 *   rd_sendmsg4,6 and rd_recvmsg4,6   DNS on sockets that are not connected
 *   rd_in_walk         finds the listeners of inbound redirection               rd_in.bpf.h, inbound.bpf.c
 *   rd_ingress, rd_egress   policy about clients of other machines, and about addresses given by routing  rd_far.bpf.h
 *   rd_walk            finds the live connections that a change of policy denies
 */
#include "bpf/rd_far.bpf.h"
#include "bpf/rd_in.bpf.h"
#include "bpf/rd_mptcp.bpf.h"
#include "bpf/rd_pair.bpf.h"
#include "bpf/rd_policy.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* The socket is used for something else now. Where there are policies, they may ask one day for what. */
static __always_inline int rd_straight(const struct rd_ctl *ctl, const struct rd_ask *ask, struct bpf_sock *sk)
{
	bool wanted = ask->proto == IPPROTO_TCP && rd_policy_is_on(ctl);
	struct rd_sock *st = bpf_sk_storage_get(&rd_sk, sk, NULL, wanted ? BPF_SK_STORAGE_GET_F_CREATE : 0);

	if (!st)
		return 1;
	st->wait = RD_SETTLED;
	st->role = wanted ? RD_ASKED : RD_NOBODY;
	st->asked = ask->addr;
	st->asked_port = bpf_htons(ask->port);
	return 1;
}

static __always_inline int rd_refuse(int error)
{
	bpf_set_retval(-error);
	return 0;
}

/* The proxy is not there: as the entry says. */
static __always_inline int rd_fail(const struct rd_ctl *ctl, const struct rd_ask *ask, const struct rd_entry *entry,
				   struct bpf_sock *sk)
{
	bool open = entry->flags & RD_FAIL_OPEN;

	rd_count(open ? RD_STAT_STRAIGHT : RD_STAT_REFUSED);
	rd_event(ctl, ask, open ? RD_EVENT_STRAIGHT : RD_EVENT_REFUSED, entry);
	return open ? rd_straight(ctl, ask, sk) : rd_refuse(ECONNREFUSED);
}

/* Sends the connection, or the datagrams, of a socket elsewhere. */
static __always_inline int rd_redirect(struct bpf_sock_addr *ctx, const struct rd_ctl *ctl, struct rd_ask *ask, bool v6,
				       bool tcp, bool mapped)
{
	struct bpf_sock *sk = ctx->sk;
	struct rd_entry *entry;
	struct lb_addr to = {};
	struct rd_sock *st;
	enum rd_way way;
	__be16 port;
	__u32 index;

	if (!sk)
		return 1;
	entry = rd_redirect_match(ctl, ask, !tcp, &index);
	if (!entry)
		return rd_straight(ctl, ask, sk);
	port = tcp ? entry->port : entry->dns_port;
	if (rd_same(&ask->addr, tcp ? &entry->to : &entry->dns) && bpf_htons(ask->port) == port)
		return rd_straight(ctl, ask, sk);
	rd_hit(index);
	way = rd_way(ctx, ask, entry, v6, tcp, mapped, &to);
	if (way == RD_WAY_NONE)
		return rd_fail(ctl, ask, entry, sk);
	if (way == RD_WAY_OWN) {
		rd_count(RD_STAT_OWN);
		if (!(__sync_fetch_and_or(&entry->flags, RD_TOLD) & RD_TOLD))
			rd_event(ctl, ask, RD_EVENT_OWN, entry);
		return rd_straight(ctl, ask, sk);
	}
	st = bpf_sk_storage_get(&rd_sk, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!st) {
		rd_count(RD_STAT_FULL);
		return rd_refuse(ECONNREFUSED);
	}
	st->asked = ask->addr;
	st->asked_port = bpf_htons(ask->port);
	st->to = to;
	st->to_port = port;
	st->client_seq = st->server_seq = 0;
	st->role = tcp ? RD_CLIENT : RD_ASKER;
	st->wait = RD_SETTLED;
	if (tcp)
		rd_subflow_remember(ctx, ask, st);
	rd_write(ctx, v6, &to, port);
	rd_count(tcp ? RD_STAT_REDIRECTED : RD_STAT_DNS);
	rd_event(ctl, ask, RD_EVENT_REDIRECTED, entry);
	return 1;
}

#define DNS_PORT 53

/* The connection goes on, to be asked about again: rd_source_known(). */
static __always_inline int rd_defer(struct bpf_sock *sk, const struct rd_ask *ask, const struct rd_answer *a)
{
	struct rd_sock *st = bpf_sk_storage_get(&rd_sk, sk, NULL, 0);

	if (!st) {
		rd_count(RD_STAT_FULL);
		return rd_refuse(EPERM);
	}
	st->uid = ask->uid;
	st->to_class = a->to_class;
	st->to_side = a->side;
	st->wait = RD_UNDECIDED;
	return 1;
}

static __always_inline int rd_connect(struct bpf_sock_addr *ctx, bool v6)
{
	struct rd_ctl *ctl = rd_ctl_get();
	struct bpf_sock *sk = ctx->sk;
	struct rd_ask ask = {};
	struct rd_answer a;
	bool tcp;
	int r;

	if (!ctl || !sk)
		return 1;
	tcp = ctx->type == SOCK_STREAM && (ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_MPTCP);
	if (!tcp && !(ctx->type == SOCK_DGRAM && ctx->protocol == IPPROTO_UDP))
		return 1;
	rd_ask_fill(ctx, v6, &ask);
	a = rd_policy_ask(ctx, ctl, &ask);
	if (a.denied)
		return rd_refuse(EPERM);
	if (tcp) {
		r = rd_redirect(ctx, ctl, &ask, v6, true, true);
		return r && a.undecided ? rd_defer(sk, &ask, &a) : r;
	}
	if (ask.port == DNS_PORT)
		return rd_redirect(ctx, ctl, &ask, v6, false, true);
	return rd_straight(ctl, &ask, sk);
}

SEC("cgroup/connect4")
int rd_connect4(struct bpf_sock_addr *ctx)
{
	return rd_connect(ctx, false);
}

SEC("cgroup/connect6")
int rd_connect6(struct bpf_sock_addr *ctx)
{
	return rd_connect(ctx, true);
}

/* A datagram with an address of its own. The kernel takes no v4-mapped address from here (ENOTSUPP). */
static __always_inline int rd_sendmsg(struct bpf_sock_addr *ctx, bool v6)
{
	struct rd_ctl *ctl = rd_ctl_get();
	struct rd_ask ask = {};

	if (!ctl || !ctx->sk || (bpf_ntohs(ctx->user_port) != DNS_PORT && !rd_policy_is_on(ctl)))
		return 1;
	rd_ask_fill(ctx, v6, &ask);
	if (rd_policy_ask(ctx, ctl, &ask).denied)
		return rd_refuse(EPERM);
	if (ask.port != DNS_PORT)
		return 1;
	return rd_redirect(ctx, ctl, &ask, v6, false, false);
}

SEC("cgroup/sendmsg4")
int rd_sendmsg4(struct bpf_sock_addr *ctx)
{
	return rd_sendmsg(ctx, false);
}

SEC("cgroup/sendmsg6")
int rd_sendmsg6(struct bpf_sock_addr *ctx)
{
	return rd_sendmsg(ctx, true);
}

/* Is it the address that the socket was sent to? */
static __always_inline bool rd_is_at(struct bpf_sock_addr *ctx, bool v6, const struct lb_addr *to, __be16 to_port)
{
	__be16 port = to_port;

	if (ctx->user_port != port)
		return false;
	if (!v6)
		return ctx->user_ip4 == to->v6[3];
	/* A v4-mapped socket that asked for IPv6 cannot be; but one of IPv6 may have been sent to IPv4. */
	return ctx->user_ip6[3] == to->v6[3] && ctx->user_ip6[0] == to->v6[0] && ctx->user_ip6[1] == to->v6[1] &&
	       ctx->user_ip6[2] == to->v6[2];
}

/* What the socket asked for, as its storage says, or its first subflow's record; false: nothing that this role is shown. */
static __always_inline bool rd_asked_of(struct bpf_sock_addr *ctx, enum rd_role role, struct rd_subflow *ret)
{
	struct bpf_sock *sk = ctx->sk;
	struct rd_sock *st = sk ? bpf_sk_storage_get(&rd_sk, sk, NULL, 0) : NULL;
	struct rd_subflow *of;

	if (st && (st->role == RD_ASKER || st->role == role)) {
		ret->asked = st->asked;
		ret->to = st->to;
		ret->asked_port = st->asked_port;
		ret->to_port = st->to_port;
		return true;
	}
	of = role == RD_CLIENT ? rd_subflow_of(ctx) : NULL;
	if (of)
		*ret = *of;
	return of;
}

/* Where the address is the one that the socket was sent to, it is shown the one that it asked for. */
static __always_inline int rd_show(struct bpf_sock_addr *ctx, bool v6, enum rd_role role)
{
	struct rd_subflow of;

	if (rd_asked_of(ctx, role, &of) && rd_is_at(ctx, v6, &of.to, of.to_port))
		rd_write(ctx, v6, &of.asked, of.asked_port);
	return 1;
}

SEC("cgroup/recvmsg4")
int rd_recvmsg4(struct bpf_sock_addr *ctx)
{
	return rd_show(ctx, false, RD_ASKER);
}

SEC("cgroup/recvmsg6")
int rd_recvmsg6(struct bpf_sock_addr *ctx)
{
	return rd_show(ctx, true, RD_ASKER);
}

SEC("cgroup/getpeername4")
int rd_getpeer4(struct bpf_sock_addr *ctx)
{
	return rd_show(ctx, false, RD_CLIENT);
}

SEC("cgroup/getpeername6")
int rd_getpeer6(struct bpf_sock_addr *ctx)
{
	return rd_show(ctx, true, RD_CLIENT);
}

/* The first timeout of a connection: of one that was denied as short as can be. */
static __always_inline void rd_timeout(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct rd_sock *st = sk ? bpf_sk_storage_get(&rd_sk, sk, NULL, 0) : NULL;

	if (st && st->wait == RD_BARRED)
		ctx->reply = 1;
}

/* Always returns 1 and writes reply of nothing but what it denies: other programs of the hierarchy have their say. */
SEC("sockops")
int rd_sockops(struct bpf_sock_ops *ctx)
{
	struct rd_ctl *ctl = rd_ctl_get();
	bool inbound = ctl && ctl->inbound;

	switch (ctx->op) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		rd_timeout(ctx);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		if (ctl)
			rd_near_connects(ctx, ctl);
		rd_client_connects(ctx);
		if (inbound && rd_in_connects(ctx, true))
			rd_wants_state(ctx);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		if (inbound)
			rd_in_listens(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		rd_client_established(ctx);
		if (ctl)
			rd_near_established(ctx, ctl);
		if (inbound)
			rd_in_connects(ctx, false);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		if (!rd_proxy_established(ctx) && inbound)
			rd_in_established(ctx);
		if (ctl)
			rd_far_established(ctx, ctl);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		rd_client_state(ctx);
		rd_near_closed(ctx);
		if (inbound && ctx->args[1] == BPF_TCP_CLOSE)
			rd_in_connects(ctx, false);
		break;
	}
	return 1;
}

/* A listener gets the first packet of a connection. */
SEC("cgroup_skb/ingress")
int rd_ingress(struct __sk_buff *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;
	struct rd_ctl *ctl;

	if (!sk || sk->state != BPF_TCP_LISTEN)
		return 1;
	ctl = rd_ctl_get();
	tp = ctl ? bpf_skc_to_tcp_sock(sk) : NULL;
	return !tp || !rd_far_denied(ctx, ctl, tp);
}

SEC("cgroup_skb/egress")
int rd_egress(struct __sk_buff *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct rd_sock *st;

	if (!sk || sk->state != BPF_TCP_SYN_SENT)
		return 1;
	sk = bpf_sk_fullsock(sk);
	st = sk ? bpf_sk_storage_get(&rd_sk, sk, NULL, 0) : NULL;
	return !st || st->wait != RD_BARRED;
}

#define SOL_IP 0
#define SOL_IPV6 41
#define SO_ORIGINAL_DST 80 /* and IP6T_SO_ORIGINAL_DST */

struct rd_sockaddr_in {
	__u16 family;
	__be16 port;
	__be32 addr;
	__u8 zero[8];
};

struct rd_sockaddr_in6 {
	__u16 family;
	__be16 port;
	__be32 flowinfo;
	struct lb_addr addr;
	__u32 scope;
};

static __always_inline void rd_answer4(struct bpf_sockopt *ctx, const struct rd_sock *st)
{
	struct rd_sockaddr_in *a = ctx->optval;

	if ((void *)(a + 1) > ctx->optval_end)
		return;
	__builtin_memset(a, 0, sizeof(*a));
	a->family = AF_INET;
	a->port = st->asked_port;
	a->addr = st->asked.v6[3];
	ctx->optlen = sizeof(*a);
	ctx->retval = 0;
}

static __always_inline void rd_answer6(struct bpf_sockopt *ctx, const struct rd_sock *st)
{
	struct rd_sockaddr_in6 *a = ctx->optval;

	if ((void *)(a + 1) > ctx->optval_end)
		return;
	__builtin_memset(a, 0, sizeof(*a));
	a->family = AF_INET6;
	a->port = st->asked_port;
	a->addr = st->asked;
	ctx->optlen = sizeof(*a);
	ctx->retval = 0;
}

/*
 * Where netfilter does not know the connection, its answer is an error (ENOPROTOOPT without the module, ENOENT with it):
 * replaced by ours. A proxy that only knows IPv4 is told of IPv6 if its buffer has room: the family says which.
 */
SEC("cgroup/getsockopt")
int rd_getsockopt(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct rd_sock *st;

	if (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6))
		return 1;
	st = sk ? bpf_sk_storage_get(&rd_sk, sk, NULL, 0) : NULL;
	if (!st || st->role != RD_PROXY)
		return 1;
	if (ctx->level == SOL_IP && rd_is_v4(&st->asked))
		rd_answer4(ctx, st);
	else
		rd_answer6(ctx, st);
	return 1;
}

/* A socket's addresses, for sock_diag. */
static __always_inline void rd_sock_addrs(struct sock *sk, struct rd_denied *d)
{
	d->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	d->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	d->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	d->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (d->family == AF_INET6) {
		BPF_CORE_READ_INTO(&d->local_addr, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&d->remote_addr, sk, __sk_common.skc_v6_daddr);
		return;
	}
	d->local_addr[0] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
	d->remote_addr[0] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
}

/*
 * After a change of policy: each live connection of which it is known what its program asked for, and which would be
 * denied now. User space closes it, or tells the accelerator.
 */
SEC("iter/bpf_sk_storage_map")
int rd_walk(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct rd_sock *st = ctx->value;
	struct rd_ctl *ctl = rd_ctl_get();
	struct rd_denied d = {};
	struct rd_ask ask = {};
	const struct rd_side *s;
	struct sock *sk = ctx->sk;
	struct rd_verdict v;
	__u32 side;

	if (!ctl || !sk || !st || (st->role != RD_CLIENT && st->role != RD_ASKED && !st->far))
		return 0;
	s = rd_side_of(ctl, RD_POLICY, &side);
	if (!s || BPF_CORE_READ(sk, __sk_common.skc_state) == BPF_TCP_CLOSE)
		return 0;
	ask.sk = (struct sock *)(__u64)sk;
	rd_sock_addrs(sk, &d);
	if (st->far) {
		rd_local_addr(ask.sk, &ask.addr);
		rd_remote_addr(ask.sk, &ask.from);
		ask.port = d.local_port;
		v = rd_far_match(s, side, &ask);
	} else {
		ask.addr = st->asked;
		ask.port = bpf_ntohs(st->asked_port);
		rd_ask_from(&ask);
		v = rd_policy_match(s, side, &ask, rd_group_class(ask.sk, side, RD_FROM, s->group[RD_FROM]), 0, true);
	}
	if (!v.entry || !(v.entry->flags & RD_DENY))
		return 0;
	d.cookie = bpf_get_socket_cookie(sk);
	d.entry = v.entry->id;
	d.flags = v.entry->flags;
	bpf_seq_write(ctx->meta->seq, &d, sizeof(d));
	return 0;
}

/* Listeners that were there before their entry, and those that are left of several with one address. */
SEC("iter/tcp")
int rd_in_walk(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct tcp_sock *tp = skc ? bpf_skc_to_tcp_sock(skc) : NULL;
	struct rd_in_to *place, key;

	if (!tp || BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.__sk_common.skc_state) != TCP_LISTEN)
		return 0;
	place = rd_in_place((struct sock *)tp);
	if (!place)
		return 0;
	key = *place;
	bpf_map_update_elem(&rd_in_socks, &key, tp, BPF_NOEXIST);
	return 0;
}
