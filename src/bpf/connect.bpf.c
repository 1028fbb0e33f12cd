// SPDX-License-Identifier: GPL-2.0
/*
 * The connect hook: a client of this machine that connects or sends to a service gets a backend's address in place of
 * the service's, before the kernel has looked at it. No packet is ever rewritten, and the socket does not notice:
 *
 *   cn_connect4,6    connect(2), and sendto(2) with MSG_FASTOPEN
 *   cn_sendmsg4,6    datagrams that bring their address along
 *   cn_recvmsg4,6    answers to those seem to come from the service
 *   cn_peer4,6       getpeername(2) says the service
 *   cn_state         sees connections made, fail and end
 *   cn_release       sees sockets closed, by whomever and however
 *   cn_stuck         a walk over the sockets of all processes, for connects that failed before they began
 *
 * What must stay true: an address that is no service costs one look-up and nothing else; each connection is counted
 * up once and down once; and a socket is never told of a backend, but by its packets.
 */
#include "bpf/cn_mptcp.bpf.h"
#include "bpf/cn_settle.bpf.h"
#include "bpf/cn_sock.bpf.h"

#define CN_REFUSE 0 /* what a program of these returns: the call fails */
#define CN_GO 1	    /* the call goes on */

/* A UDP flow of a service that does not say for how long: ends after this long without a datagram. */
#define CN_IDLE_NS 30000000000ULL

char LICENSE[] SEC("license") = "GPL";

/* What a socket of either family asks for, and gets. */
struct cn_ask {
	struct lb_vip vip;
	__u32 families;
};

static __always_inline void cn_ask4(struct bpf_sock_addr *ctx, struct cn_ask *ask)
{
	__builtin_memset(ask, 0, sizeof(*ask));
	ask->vip.addr.v6[2] = bpf_htonl(0xffff);
	ask->vip.addr.v6[3] = ctx->user_ip4;
	ask->vip.port = (__be16)ctx->user_port;
	ask->vip.proto = ctx->protocol == IPPROTO_UDP ? IPPROTO_UDP : IPPROTO_TCP;
	ask->families = CN_V4;
}

static __always_inline void cn_ask6(struct bpf_sock_addr *ctx, struct cn_ask *ask)
{
	__builtin_memset(ask, 0, sizeof(*ask));
	ask->vip.addr.v6[0] = ctx->user_ip6[0];
	ask->vip.addr.v6[1] = ctx->user_ip6[1];
	ask->vip.addr.v6[2] = ctx->user_ip6[2];
	ask->vip.addr.v6[3] = ctx->user_ip6[3];
	ask->vip.port = (__be16)ctx->user_port;
	ask->vip.proto = ctx->protocol == IPPROTO_UDP ? IPPROTO_UDP : IPPROTO_TCP;
	ask->families = CN_V6;
}

/* Is the protocol one that services have? Raw and ping sockets connect too. */
static __always_inline bool cn_is_ours(struct bpf_sock_addr *ctx)
{
	return ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_UDP || ctx->protocol == IPPROTO_MPTCP;
}

static __always_inline void cn_set4(struct bpf_sock_addr *ctx, const struct lb_addr *addr, __be16 port)
{
	ctx->user_ip4 = addr->v6[3];
	ctx->user_port = port;
}

static __always_inline void cn_set6(struct bpf_sock_addr *ctx, const struct lb_addr *addr, __be16 port)
{
	ctx->user_ip6[0] = addr->v6[0];
	ctx->user_ip6[1] = addr->v6[1];
	ctx->user_ip6[2] = addr->v6[2];
	ctx->user_ip6[3] = addr->v6[3];
	ctx->user_port = port;
}

static __always_inline bool cn_same(const struct lb_addr *a, const struct lb_addr *b)
{
	return a->v6[0] == b->v6[0] && a->v6[1] == b->v6[1] && a->v6[2] == b->v6[2] && a->v6[3] == b->v6[3];
}

/* An IPv6 socket speaks IPv4 too, unless it must not, or is bound to an address of one of them. */
static __always_inline __u32 cn_families6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct sock___cn *full;

	if (!sk)
		return CN_V6;
	if (sk->src_ip6[0] || sk->src_ip6[1] || sk->src_ip6[2] || sk->src_ip6[3])
		return !sk->src_ip6[0] && !sk->src_ip6[1] && sk->src_ip6[2] == bpf_htonl(0xffff) ? CN_V4 : CN_V6;
	if (ctx->protocol == IPPROTO_UDP)
		full = (struct sock___cn *)bpf_skc_to_udp6_sock(sk);
	else
		full = (struct sock___cn *)bpf_skc_to_tcp6_sock(sk);
	if (full && BPF_CORE_READ_BITFIELD_PROBED(full, __sk_common.skc_ipv6only))
		return CN_V6;
	return CN_V4 | CN_V6;
}

/* The plan of what is asked for, if this hook serves it. */
static __always_inline struct lb_plan *cn_plan(const struct cn_ask *ask)
{
	__u32 *service = bpf_map_lookup_elem(&lb_vips, &ask->vip);
	struct lb_ctl *ctl = lb_ctl_get();
	struct lb_plan *plan;

	if (!service || !ctl || !ctl->on)
		return NULL;
	plan = lb_plan_get(*service);
	return plan && plan->flags & LB_PLAN_CONNECT ? plan : NULL;
}

static __always_inline int cn_refuse(const struct lb_plan *plan, const struct cn_ask *ask, enum lb_stat why)
{
	lb_count(why);
	cn_event_call(LB_EVENT_NO_BACKEND, plan->service, LB_NONE, ask->vip.proto);
	bpf_set_retval(why == LB_STAT_FAMILY ? -ENETUNREACH : -ECONNREFUSED);
	return CN_REFUSE;
}

/* A backend for what is asked; LB_NONE: the call is to be refused, and *ret_why says for what. */
static __always_inline __u32 cn_choose(struct bpf_sock_addr *ctx, const struct lb_plan *plan, const struct cn_ask *ask,
				       enum lb_stat *ret_why)
{
	__u32 id;

	*ret_why = LB_STAT_NO_BACKEND;
	if (!plan->n)
		return LB_NONE;
	id = cn_pick(ctx, plan, ask->families);
	if (id == LB_NONE)
		*ret_why = LB_STAT_FAMILY;
	return id;
}

static __always_inline void cn_note_pick(const struct lb_plan *plan, const struct cn_ask *ask, __u32 id)
{
	struct lb_load *load = lb_load_get(id);

	if (load)
		__sync_fetch_and_add(&load->picks, 1);
	lb_count(LB_STAT_PICKED);
	cn_event_call(LB_EVENT_PICK, plan->service, id, ask->vip.proto);
}

/* Remembers a connection with the socket, and counts it. */
static __always_inline void cn_remember(struct bpf_sock_addr *ctx, struct bpf_sock *sk, const struct lb_plan *plan,
					const struct cn_ask *ask, const struct lb_backend *b, __u32 id)
{
	struct lb_load *load = lb_load_get(id);
	struct cn_known k;

	if (!load || !cn_know_new(sk, bpf_get_socket_cookie(ctx), &k)) {
		lb_count(LB_STAT_FLOW_FULL);
		return;
	}
	/* Of an earlier connect() that failed before it became a connection, or of UDP. */
	cn_uncount(&k);
	k.of->vip = ask->vip.addr;
	k.of->vip_port = ask->vip.port;
	k.of->addr = b->addr;
	k.of->port = b->port;
	k.of->service = plan->service;
	k.of->backend = id;
	/* | 1: 0 has a meaning. */
	k.of->since = ask->vip.proto == IPPROTO_TCP ? (__u32)(bpf_ktime_get_coarse_ns() / 1000) | 1 : 0;
	__sync_fetch_and_add(&load->conns, 1);
	cn_known_written(&k, true);
}

/* TCP ends with its connection; a UDP socket may just connect elsewhere. */
static __always_inline int cn_not_ours(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct cn_known k;

	if (ctx->protocol != IPPROTO_UDP || !sk)
		return CN_GO;
	if (cn_know(sk, bpf_get_socket_cookie(ctx), &k) && k.of->backend != LB_NONE)
		cn_forget(&k);
	return CN_GO;
}

/* Returns the backend to go to, or NULL: *ret is the program's answer. */
static __always_inline struct lb_backend *cn_connect(struct bpf_sock_addr *ctx, const struct lb_plan *plan,
						     const struct cn_ask *ask, int *ret)
{
	struct bpf_sock *sk = ctx->sk;
	struct lb_backend *b;
	enum lb_stat why;
	__u32 id;

	*ret = CN_GO;
	if (!sk || bpf_sk_storage_get(&cn_direct, sk, NULL, 0))
		return NULL;
	id = cn_choose(ctx, plan, ask, &why);
	b = lb_backend_get(id);
	if (id == LB_NONE || !b) {
		*ret = cn_refuse(plan, ask, why);
		return NULL;
	}
	cn_remember(ctx, sk, plan, ask, b, id);
	if (cn_is_subflow(ctx, sk))
		cn_subflow_remember(ctx, &ask->vip, b);
	cn_note_pick(plan, ask, id);
	return b;
}

SEC("cgroup/connect4")
int cn_connect4(struct bpf_sock_addr *ctx)
{
	struct lb_backend *b;
	struct lb_plan *plan;
	struct cn_ask ask;
	int ret;

	if (!cn_is_ours(ctx))
		return CN_GO;
	cn_ask4(ctx, &ask);
	plan = cn_plan(&ask);
	if (!plan)
		return cn_not_ours(ctx);
	b = cn_connect(ctx, plan, &ask, &ret);
	if (b)
		cn_set4(ctx, &b->addr, b->port);
	return ret;
}

SEC("cgroup/connect6")
int cn_connect6(struct bpf_sock_addr *ctx)
{
	struct lb_backend *b;
	struct lb_plan *plan;
	struct cn_ask ask;
	int ret;

	if (!cn_is_ours(ctx))
		return CN_GO;
	cn_ask6(ctx, &ask);
	plan = cn_plan(&ask);
	if (!plan)
		return cn_not_ours(ctx);
	ask.families = cn_families6(ctx);
	b = cn_connect(ctx, plan, &ask, &ret);
	if (b)
		cn_set6(ctx, &b->addr, b->port);
	return ret;
}

static __always_inline void cn_flow_key(struct cn_flow_key *key, __u64 cookie, const struct lb_addr *addr, __be16 port,
					enum cn_way way)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->cookie = cookie;
	key->addr = *addr;
	key->port = port;
	key->way = way;
}

/* May a flow go on with the backend that it has? One that drains keeps its flows. */
static __always_inline bool cn_flow_lives(const struct cn_flow *flow, const struct lb_plan *plan, __u64 now_ns)
{
	__u64 idle_ns = plan->udp_idle_ms ? plan->udp_idle_ms * 1000000ULL : CN_IDLE_NS;
	struct lb_backend *b = lb_backend_get(flow->backend);

	return b && flow->service == plan->service && b->service == flow->service && b->gen == flow->gen &&
	       !(b->flags & (LB_BACKEND_GONE | LB_BACKEND_DOWN)) && now_ns - flow->last_ns < idle_ns;
}

/* So that what comes back from the backend is known. */
static __always_inline void cn_flow_back(struct cn_flow_key *key, const struct cn_ask *ask, const struct cn_flow *to)
{
	struct cn_flow *known, from = {};

	cn_flow_key(key, key->cookie, &to->addr, to->port, CN_FROM);
	known = bpf_map_lookup_elem(&cn_flows, key);
	if (known && known->service == to->service)
		return;
	from.addr = ask->vip.addr;
	from.port = ask->vip.port;
	from.service = to->service;
	if (bpf_map_update_elem(&cn_flows, key, &from, BPF_ANY))
		lb_count(LB_STAT_FLOW_FULL);
}

static __always_inline bool cn_flow_new(struct bpf_sock_addr *ctx, __u64 cookie, const struct lb_plan *plan,
					const struct cn_ask *ask, struct cn_flow *to, int *ret)
{
	struct bpf_sock *sk = ctx->sk;
	struct lb_backend *b;
	struct cn_known k;
	enum lb_stat why;
	__u32 id = cn_choose(ctx, plan, ask, &why);

	b = lb_backend_get(id);
	if (id == LB_NONE || !b) {
		*ret = cn_refuse(plan, ask, why);
		return false;
	}
	if (sk && cn_know_new(sk, cookie, &k)) {
		k.of->sends = 1;
		if (!(k.is & CN_NOTE_WRITTEN))
			cn_known_written(&k, false);
	} else {
		lb_count(LB_STAT_FLOW_FULL);
	}
	to->addr = b->addr;
	to->port = b->port;
	to->service = plan->service;
	to->backend = id;
	to->gen = b->gen;
	cn_note_pick(plan, ask, id);
	return true;
}

/* Sets *to to where the datagram goes; false: *ret is the program's answer. */
static __always_inline bool cn_send(struct bpf_sock_addr *ctx, const struct lb_plan *plan, const struct cn_ask *ask,
				    struct cn_flow *to, int *ret)
{
	__u64 now_ns = bpf_ktime_get_coarse_ns();
	struct cn_flow_key key;
	struct cn_flow *known;

	*ret = CN_GO;
	cn_flow_key(&key, bpf_get_socket_cookie(ctx), &ask->vip.addr, ask->vip.port, CN_TO);
	known = bpf_map_lookup_elem(&cn_flows, &key);
	if (known && cn_flow_lives(known, plan, now_ns)) {
		known->last_ns = now_ns;
		*to = *known;
		lb_count(LB_STAT_AGAIN);
	} else {
		if (!cn_flow_new(ctx, key.cookie, plan, ask, to, ret))
			return false;
		to->last_ns = now_ns;
		if (bpf_map_update_elem(&cn_flows, &key, to, BPF_ANY))
			lb_count(LB_STAT_FLOW_FULL);
	}
	cn_flow_back(&key, ask, to);
	return true;
}

/* Sockets of both families come here with addresses of IPv4. */
SEC("cgroup/sendmsg4")
int cn_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct cn_flow to = {};
	struct lb_plan *plan;
	struct cn_ask ask;
	int ret;

	if (ctx->protocol != IPPROTO_UDP)
		return CN_GO;
	cn_ask4(ctx, &ask);
	plan = cn_plan(&ask);
	if (!plan)
		return CN_GO;
	if (cn_send(ctx, plan, &ask, &to, &ret))
		cn_set4(ctx, &to.addr, to.port);
	return ret;
}

/* The kernel does not take an IPv4 backend for an IPv6 address here (udpv6_sendmsg()), so families is CN_V6. */
SEC("cgroup/sendmsg6")
int cn_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct cn_flow to = {};
	struct lb_plan *plan;
	struct cn_ask ask;
	int ret;

	if (ctx->protocol != IPPROTO_UDP)
		return CN_GO;
	cn_ask6(ctx, &ask);
	plan = cn_plan(&ask);
	if (!plan)
		return CN_GO;
	if (cn_send(ctx, plan, &ask, &to, &ret))
		cn_set6(ctx, &to.addr, to.port);
	return ret;
}

/* If the address is that of the backend that the socket is connected to: the service's. Sets *ask->vip to it. */
static __always_inline bool cn_is_peer(const struct cn_sock *st, struct cn_ask *ask)
{
	if (st->backend == LB_NONE || ask->vip.port != st->port || !cn_same(&ask->vip.addr, &st->addr))
		return false;
	ask->vip.addr = st->vip;
	ask->vip.port = st->vip_port;
	return true;
}

/* Who sent a datagram, as the program is to see it. */
static __always_inline bool cn_received(struct bpf_sock_addr *ctx, struct cn_ask *ask)
{
	struct bpf_sock *sk = ctx->sk;
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct cn_flow_key key;
	struct cn_flow *from;
	struct cn_known k;

	if (!sk || !cn_know(sk, cookie, &k))
		return false;
	/* Dissolved by connect(AF_UNSPEC), which no program sees: not connected, but for what we know. */
	if (sk->state == BPF_TCP_ESTABLISHED && cn_is_peer(k.of, ask))
		return true;
	if (!k.of->sends)
		return false;
	cn_flow_key(&key, cookie, &ask->vip.addr, ask->vip.port, CN_FROM);
	from = bpf_map_lookup_elem(&cn_flows, &key);
	if (!from)
		return false;
	ask->vip.addr = from->addr;
	ask->vip.port = from->port;
	return true;
}

SEC("cgroup/recvmsg4")
int cn_recvmsg4(struct bpf_sock_addr *ctx)
{
	struct cn_ask ask;

	cn_ask4(ctx, &ask);
	if (cn_received(ctx, &ask))
		cn_set4(ctx, &ask.vip.addr, ask.vip.port);
	return CN_GO;
}

SEC("cgroup/recvmsg6")
int cn_recvmsg6(struct bpf_sock_addr *ctx)
{
	struct cn_ask ask;

	cn_ask6(ctx, &ask);
	if (cn_received(ctx, &ask))
		cn_set6(ctx, &ask.vip.addr, ask.vip.port);
	return CN_GO;
}

static __always_inline bool cn_peer(struct bpf_sock_addr *ctx, struct cn_ask *ask)
{
	struct bpf_sock *sk = ctx->sk;
	struct cn_known k;

	if (sk && cn_know(sk, bpf_get_socket_cookie(ctx), &k))
		return cn_is_peer(k.of, ask);
	return cn_subflow_peer(ctx, &ask->vip);
}

SEC("cgroup/getpeername4")
int cn_peer4(struct bpf_sock_addr *ctx)
{
	struct cn_ask ask;

	cn_ask4(ctx, &ask);
	if (cn_peer(ctx, &ask))
		cn_set4(ctx, &ask.vip.addr, ask.vip.port);
	return CN_GO;
}

SEC("cgroup/getpeername6")
int cn_peer6(struct bpf_sock_addr *ctx)
{
	struct cn_ask ask;

	cn_ask6(ctx, &ask);
	if (cn_peer(ctx, &ask))
		cn_set6(ctx, &ask.vip.addr, ask.vip.port);
	return CN_GO;
}

/*
 * The last descriptor is gone. What TCP has under way ends by itself, and cn_state() sees it: to look for a note here as
 * well would be in vain at most sockets of the machine's, and a place that nobody has looked at for long. What is left
 * are sockets of UDP, and those of TCP whose connect() failed before there was a SYN, to which the kernel leaves no port.
 */
SEC("cgroup/sock_release")
int cn_release(struct bpf_sock *ctx)
{
	struct cn_known k = {};

	if (ctx->protocol != IPPROTO_UDP && (ctx->state != BPF_TCP_CLOSE || ctx->dst_port))
		return CN_GO;
	cn_notes_release(bpf_get_socket_cookie(ctx));
	if (cn_has_stores())
		k.of = bpf_sk_storage_get(&cn_sk, ctx, NULL, 0);
	if (k.of)
		cn_uncount(&k);
	return CN_GO;
}

/*
 * Sees connections made, fail and end, on the whole machine: one look at each change of state. A sock_ops program would be
 * called several times for each connection, those of no service too, which costs more than all the others together.
 */
SEC("tp_btf/inet_sock_set_state")
int cn_state(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];

	if ((int)ctx[2] == BPF_TCP_CLOSE && sk)
		cn_end(sk, (int)ctx[1]);
	else if ((int)ctx[1] == BPF_TCP_SYN_SENT && (int)ctx[2] == BPF_TCP_ESTABLISHED && sk)
		cn_established(sk);
	return 0;
}

SEC("iter/task_file")
int cn_stuck(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct socket *sock = file ? bpf_sock_from_file(file) : NULL;
	struct sock *sk = sock ? sock->sk : NULL;

	if (sk && cn_settle_sock(sk))
		__sync_fetch_and_add(&cn_settle_args.settled, 1);
	return 0;
}
