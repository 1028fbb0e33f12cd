// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/pair.h"

#include <errno.h>
#include <fcntl.h>

#include "base/util.h"
#include "bench/load.h"
#include "bench/side.h"

#define GRACE_MS 20000
/* For the server to tell what it met, when the client has failed. */
#define BLAME_MS 2000

/* Each process closes what is the other's, so that ends are seen. */
struct wires {
	const struct pair_spec *spec;
	int addr_from, addr_to; /* the server's address, to the client */
	int life_from, life_to; /* nobody writes; the client alone holds the writing end */
};

static void close_now(int *fd)
{
	closep(fd);
	*fd = -1;
}

static void wires_done(struct wires *w)
{
	close_now(&w->addr_from);
	close_now(&w->addr_to);
	close_now(&w->life_from);
	close_now(&w->life_to);
}
#define _cleanup_wires_ _cleanup_(wires_done)

static int wires_make(struct wires *w)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	w->addr_from = fds[0];
	w->addr_to = fds[1];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	w->life_from = fds[0];
	w->life_to = fds[1];
	return 0;
}

static int server_side(void *data, struct pair_result *ret)
{
	struct wires *w = data;

	close_now(&w->addr_from);
	close_now(&w->life_to);
	return load_serve(w->spec, w->addr_to, w->life_from, ret);
}

static int client_side(void *data, struct pair_result *ret)
{
	struct wires *w = data;

	close_now(&w->addr_to);
	return load_drive(w->spec, w->addr_from, ret);
}

/* One of them failed. The one that was left waiting knows less. */
static int say(int r_server, int r_client, struct err *err)
{
	bool server = r_server < 0 && r_server != -ETIMEDOUT && r_server != -EPIPE;
	int r = server || r_client >= 0 ? r_server : r_client;

	return err_set(err, r, "the %s met: %s", server || r_client >= 0 ? "server" : "client", strerror(-r));
}

int pair_run(const struct pair_spec *spec, struct pair_result *ret, struct err *err)
{
	_cleanup_wires_ struct wires w = { spec, -1, -1, -1, -1 };
	_cleanup_(side_done) struct side server = SIDE_NONE, client = SIDE_NONE;
	struct pair_result from_server = {}, from_client = {};
	int r, r_server, r_client;

	r = wires_make(&w);
	if (r >= 0)
		r = side_start(&spec->server, server_side, &w, &server);
	if (r >= 0)
		r = side_start(&spec->client, client_side, &w, &client);
	wires_done(&w);
	if (r < 0)
		return err_set(err, r, "cannot start two processes: %s", strerror(-r));
	r_client = side_wait(&client, (int)(spec->seconds * 1100) + GRACE_MS, &from_client);
	r_server = side_wait(&server, r_client < 0 ? BLAME_MS : GRACE_MS, &from_server);
	if (r_client < 0 || r_server < 0)
		return say(r_server, r_client, err);
	*ret = spec->load == PAIR_STREAM ? from_server : from_client;
	ret->cpu_seconds = from_server.cpu_seconds + from_client.cpu_seconds;
	return 0;
}
