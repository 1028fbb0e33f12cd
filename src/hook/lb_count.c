// SPDX-License-Identifier: GPL-2.0-or-later
/* What the hooks counted, and what they have to tell. */
#include "hook/lb_priv.h"
#include "sys/bpf.h"

#include <errno.h>

#include <bpf/bpf.h>

static int lb_on_event(void *data, void *record, size_t n)
{
	struct lb *lb = data;

	if (n >= sizeof(struct lb_event) && lb->on_event)
		lb->on_event(record, lb->on_event_data);
	return 0;
}

int lb_events_open(struct lb *lb, struct err *err)
{
	lb->events = ring_buffer__new(bpf_map__fd(lb->skel->maps.lb_events), lb_on_event, lb, NULL);
	if (!lb->events)
		return err_set(err, -errno, "cannot open the ring of events: %s", strerror(errno));
	return 0;
}

int lb_event_fd(const struct lb *lb)
{
	return ring_buffer__epoll_fd(lb->events);
}

int lb_dispatch(struct lb *lb, lb_event_fn fn, void *data)
{
	lb->on_event = fn;
	lb->on_event_data = data;
	return ring_buffer__consume(lb->events);
}

/* Read one after the other, while both change: never less than none. */
static uint64_t packet_open(const struct lb_load *load)
{
	uint64_t closed = __atomic_load_n(&load->packet_closed, __ATOMIC_RELAXED),
		 all = __atomic_load_n(&load->packet_conns, __ATOMIC_RELAXED);

	return all > closed ? all - closed : 0;
}

int lb_backend_load(const struct lb *lb, uint32_t backend, struct lb_counts *ret)
{
	const struct lb_load *load;

	if (backend == LB_NONE || backend >= lb->n_backends)
		return -ENOENT;
	load = &lb->load[backend];
	*ret = (struct lb_counts){
		.conns = __atomic_load_n(&load->conns, __ATOMIC_RELAXED) + packet_open(load),
		.picks = __atomic_load_n(&load->picks, __ATOMIC_RELAXED),
		.failures = __atomic_load_n(&load->failures, __ATOMIC_RELAXED),
		.avoid_until_ns = __atomic_load_n(&load->avoid_until_ns, __ATOMIC_RELAXED),
	};
	return 0;
}

int lb_backend_counts(const struct lb *lb, uint32_t backend, struct lb_counts *ret)
{
	int n_cpus = libbpf_num_possible_cpus();
	_cleanup_free_ struct lb_traffic *traffic = calloc(n_cpus > 0 ? (size_t)n_cpus : 1, sizeof(*traffic));
	struct lb_counts counts;
	int r = lb_backend_load(lb, backend, &counts);

	if (r < 0)
		return r;
	if (!traffic)
		return -ENOMEM;
	if (bpf_map_lookup_elem(bpf_map__fd(lb->skel->maps.lb_traffic), &backend, traffic))
		return -errno;
	for (int i = 0; i < n_cpus; i++) {
		counts.traffic.in_packets += traffic[i].in_packets;
		counts.traffic.in_bytes += traffic[i].in_bytes;
		counts.traffic.out_packets += traffic[i].out_packets;
		counts.traffic.out_bytes += traffic[i].out_bytes;
	}
	*ret = counts;
	return 0;
}

void lb_backend_avoid(struct lb *lb, uint32_t backend, uint64_t until_ns)
{
	if (backend != LB_NONE && backend < lb->n_backends)
		__atomic_store_n(&lb->load[backend].avoid_until_ns, until_ns, __ATOMIC_RELAXED);
}

int lb_stats(const struct lb *lb, uint64_t ret[_LB_STAT_MAX])
{
	uint32_t n = bpf_map__max_entries(lb->skel->maps.lb_stats);

	/* Taken over from an earlier version, it may have fewer. */
	memset(ret, 0, _LB_STAT_MAX * sizeof(*ret));
	return bpf_sys_sum(bpf_map__fd(lb->skel->maps.lb_stats), n < _LB_STAT_MAX ? n : _LB_STAT_MAX, ret);
}
