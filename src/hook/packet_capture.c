// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * While somebody captures, interfaces run programs that do (bpf/xdp_capture.bpf.c, tc_capture.bpf.c), on the tables of the
 * others; they are exchanged in one step, as they are when a process takes over. So captures cost nothing while there is
 * none. These programs are loaded with the first capture and let go with the last one.
 *
 * Their arrays of further steps are pinned meanwhile: if this process dies, they go on, and the next one exchanges them.
 */
#include "base/clock.h"
#include "hook/packet_priv.h"

#include <errno.h>
#include <sys/mman.h>

#include <bpf/bpf.h>

#include "base/log.h"
#include "sys/bpf.h"
#include "tc_capture.skel.h"
#include "xdp_capture.skel.h"

/* The programs stop to look when nobody has read for so long. */
#define CAPTURE_UNTIL_NS 30000000000ULL
/* Packets that are read at once: the loop has other work too. */
#define CAPTURE_BATCH 256

struct packet_capture {
	struct xdp_capture_skel *xdp;
	struct tc_capture_skel *tc;
	struct pk_capture_ctl *ctl; /* mapped */
	struct ring_buffer *ring;
	packet_capture_fn fn;
	void *data;
	int n_read; /* in this batch */
};

int packet_prog_xdp(const struct packet *p)
{
	return bpf_program__fd(p->capture ? p->capture->xdp->progs.pk_xdp : p->xdp->progs.pk_xdp);
}

int packet_prog_tc(const struct packet *p)
{
	return bpf_program__fd(p->capture ? p->capture->tc->progs.pk_tc : p->tc->progs.pk_tc);
}

static size_t ctl_bytes(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (sizeof(struct pk_capture_ctl) + page - 1) / page * page;
}

static struct packet_capture *capture_free(struct packet_capture *c)
{
	if (!c)
		return NULL;
	ring_buffer__free(c->ring);
	if (c->ctl)
		(void)munmap(c->ctl, ctl_bytes());
	xdp_capture_skel__destroy(c->xdp);
	tc_capture_skel__destroy(c->tc);
	free(c);
	return NULL;
}

static void capture_freep(struct packet_capture **c)
{
	(void)capture_free(*c);
}

/* The tables are those of the hook; what is of captures, of the first of the two objects; and each has its own steps. */
static int prepare(struct bpf_object *obj, const struct bpf_object *hook, const struct bpf_object *first)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, obj) {
		const char *name = bpf_map__name(map);
		const struct bpf_map *other;
		int r = 0;

		if (bpf_map__is_internal(map) || !strncmp(name, "pk_steps_", strlen("pk_steps_")))
			continue;
		other = bpf_object__find_map_by_name(strncmp(name, "pk_cap_", strlen("pk_cap_")) ? hook : first, name);
		if (other && other != map)
			r = bpf_map__reuse_fd(map, bpf_map__fd(other));
		else if (streq(name, "pk_cap_room"))
			r = bpf_map__set_max_entries(map, (uint32_t)libbpf_num_possible_cpus());
		if (r < 0)
			return r;
	}
	return 0;
}

static int load(const struct packet *p, struct packet_capture *c)
{
	int r;

	c->xdp = xdp_capture_skel__open();
	c->tc = tc_capture_skel__open();
	if (!c->xdp || !c->tc)
		return -errno;
	if ((r = prepare(c->xdp->obj, p->xdp->obj, c->xdp->obj)) < 0 || (r = xdp_capture_skel__load(c->xdp)) < 0)
		return r;
	r = prepare(c->tc->obj, p->tc->obj, c->xdp->obj);
	return r < 0 ? r : tc_capture_skel__load(c->tc);
}

static int on_packet(void *data, void *record, size_t size)
{
	struct packet_capture *c = data;
	const struct pk_capture_packet *k = record;

	if (size >= sizeof(*k) && k->in.taken + k->out.taken <= size - sizeof(*k) && k->reason < _PK_REASON_MAX)
		c->fn(k, (const uint8_t *)(k + 1), c->data);
	/* This one is taken; the rest waits for the next time. */
	return ++c->n_read < CAPTURE_BATCH ? 0 : -EAGAIN;
}

static int map_all(struct packet_capture *c)
{
	void *v = mmap(NULL, ctl_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(c->xdp->maps.pk_cap_ctl), 0);

	if (v == MAP_FAILED)
		return -errno;
	c->ctl = v;
	c->ring = ring_buffer__new(bpf_map__fd(c->xdp->maps.pk_cap_ring), on_packet, c, NULL);
	return c->ring ? 0 : -errno;
}

static const char *const steps_pins[] = { "pk_steps_xdp_c", "pk_steps_tc_c" };

static int steps_pin(const struct packet_capture *c, struct err *err)
{
	const struct bpf_map *const maps[] = { c->xdp->maps.pk_steps_xdp, c->tc->maps.pk_steps_tc };

	for (size_t i = 0; i < ARRAY_SIZE(steps_pins); i++) {
		char path[512];
		int r = packet_pin_path(path, sizeof(path), steps_pins[i], err);

		if (r < 0)
			return r;
		(void)unlink(path);
		if (bpf_obj_pin(bpf_map__fd(maps[i]), path))
			return err_set(err, -errno, "cannot pin '%s': %s", path, strerror(errno));
	}
	return 0;
}

void packet_capture_unpin(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(steps_pins); i++) {
		char path[512];

		if (packet_pin_path(path, sizeof(path), steps_pins[i], NULL) >= 0)
			(void)unlink(path);
	}
}

static void put_off(struct packet_capture *c)
{
	__atomic_store_n(&c->ctl->until_ns, clock_ns(CLOCK_MONOTONIC) + CAPTURE_UNTIL_NS, __ATOMIC_RELAXED);
}

void packet_capture_tick(struct packet *p)
{
	if (p->capture)
		put_off(p->capture);
}

/* The hook's own programs again. What still runs one of the others has ended before these lose their steps. */
struct packet_capture *packet_capture_close(struct packet *p)
{
	struct packet_capture *c = TAKE_PTR(p->capture);
	struct err err = {};

	if (!c)
		return NULL;
	if (packet_attach_swap(p, &err) < 0)
		log_warn("after a capture: %s", err.text);
	if (lb_grace(p->lb, &err) < 0)
		log_warn("after a capture: %s", err.text);
	packet_capture_unpin();
	return capture_free(c);
}

static int capture_open(struct packet *p, packet_capture_fn fn, void *data, struct err *err)
{
	_cleanup_(capture_freep) struct packet_capture *c = new0(struct packet_capture);
	int r;

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->fn = fn;
	c->data = data;
	r = load(p, c);
	if (r >= 0)
		r = map_all(c);
	if (r < 0)
		return err_set(err, r, "cannot load the programs that capture: %s (%s)", strerror(-r), bpf_sys_last());
	put_off(c);
	r = steps_pin(c, err);
	if (r < 0)
		return r;
	p->capture = TAKE_PTR(c);
	r = packet_attach_swap(p, err);
	if (r < 0)
		(void)packet_capture_close(p);
	return r;
}

/* Conditions change while programs read them: off before, on when all are there. */
static void filter_set(struct pk_capture_filter *to, const struct pk_capture_filter *from)
{
	uint64_t lost = to->lost;

	__atomic_store_n(&to->on, 0, __ATOMIC_SEQ_CST);
	*to = *from;
	to->on = 0;
	to->lost = lost;
	__atomic_store_n(&to->on, 1, __ATOMIC_SEQ_CST);
}

int packet_capture_start(struct packet *p, const struct pk_capture_filter *filter, packet_capture_fn fn, void *data,
			 uint32_t *ret_id, struct err *err)
{
	uint32_t id = 0;
	int r;

	while (p->capture && id < PK_CAPTURES && p->capture->ctl->filters[id].on)
		id++;
	if (id == PK_CAPTURES)
		return err_set(err, -EBUSY, "%d captures run already: end one of them", PK_CAPTURES);
	if (!p->capture && (r = capture_open(p, fn, data, err)) < 0)
		return r;
	p->capture->ctl->filters[id].lost = 0;
	filter_set(&p->capture->ctl->filters[id], filter);
	*ret_id = id;
	return 0;
}

void packet_capture_change(struct packet *p, uint32_t id, const struct pk_capture_filter *filter)
{
	struct pk_capture_filter was = p->capture->ctl->filters[id];

	was.lost = filter->lost;
	if (memcmp(&was, filter, sizeof(was)))
		filter_set(&p->capture->ctl->filters[id], filter);
}

void packet_capture_stop(struct packet *p, uint32_t id)
{
	if (!p->capture)
		return;
	__atomic_store_n(&p->capture->ctl->filters[id].on, 0, __ATOMIC_SEQ_CST);
	if (!packet_captures(p))
		(void)packet_capture_close(p);
}

size_t packet_captures(const struct packet *p)
{
	size_t n = 0;

	for (size_t i = 0; p->capture && i < PK_CAPTURES; i++)
		n += p->capture->ctl->filters[i].on != 0;
	return n;
}

uint64_t packet_capture_lost(const struct packet *p, uint32_t id)
{
	return p->capture ? __atomic_load_n(&p->capture->ctl->filters[id].lost, __ATOMIC_RELAXED) : 0;
}

int packet_capture_fd(const struct packet *p)
{
	return p->capture ? ring_buffer__epoll_fd(p->capture->ring) : -1;
}

int packet_capture_read(struct packet *p)
{
	int r;

	if (!p->capture)
		return 0;
	p->capture->n_read = 0;
	r = ring_buffer__consume(p->capture->ring);
	return r < 0 && r != -EAGAIN ? r : p->capture->n_read;
}
