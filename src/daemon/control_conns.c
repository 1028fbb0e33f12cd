// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * GET /v1/conns: the packet hook's connections. The table may have millions, and packets change it all the time: it is
 * read part by part, as the client reads. So what is told is no snapshot; who is in it from the beginning to the end
 * is told once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "base/num.h"
#include "daemon/control_priv.h"
#include "daemon/run.h"

struct conns {
	struct control *c;
	const struct packet *packet;
	uint32_t next; /* part of the table */
	char *service; /* only of this one; NULL: of all */
	uint64_t limit, shown;
	bool begun, walked, more;
	FILE *f; /* writes text while a part is read */
	char *text;
	size_t n;
};

static void conns_free(void *data)
{
	struct conns *l = data;

	l->c->n_dumps--;
	free(l->service);
	free(l->text);
	free(l);
}

static json_t *endpoint(const struct lb_addr *addr, uint16_t port)
{
	char text[ADDR_TEXT_MAX];

	return port ? json_string(addr_format(addr, port, text)) : json_null();
}

static json_t *conn_json(const struct conns *l, const struct service *sv, const struct pk_conn *conn, uint64_t idle_ms)
{
	struct packet_ends ends;

	packet_conn_ends(l->packet, conn, &ends);
	return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:s, s:s, s:I}", "service",
			 sv ? json_string(sv->name) : json_null(), "protocol",
			 conn->proto == IPPROTO_UDP ? "udp" : "tcp", "client",
			 endpoint(&conn->client, ntohs(conn->cport)), "listen",
			 endpoint(&conn->vip, ntohs(conn->vport)), "backend",
			 endpoint(&ends.backend, ends.backend_port), "source", endpoint(&ends.source, ends.source_port),
			 "forward", conn->forward < _LB_FORWARD_MAX ? lb_forward_words[conn->forward] : "?", "state",
			 packet_state_words[conn->state], "idle_ms", (json_int_t)idle_ms);
}

/* 1: there are more than are wanted. */
static int conns_one(const struct pk_conn *conn, uint64_t idle_ms, void *data)
{
	struct conns *l = data;
	const struct service *sv = services_service_of(l->c->host.run->services, conn->service);
	json_t *o;

	if (conn->state >= _PK_STATE_MAX || (l->service && (!sv || !streq(sv->name, l->service))))
		return 0;
	if (l->limit && l->shown == l->limit)
		return 1;
	o = conn_json(l, sv, conn, idle_ms);
	if (!o)
		return -ENOMEM;
	(void)fputs(l->shown++ ? ",\n" : "\n", l->f);
	(void)json_dumpf(o, l->f, JSON_COMPACT);
	json_decref(o);
	return 0;
}

static void conns_begin(struct conns *l)
{
	(void)fprintf(l->f, "{\"room\":%llu,\"conns\":[", (unsigned long long)packet_room(l->packet));
	l->begun = true;
}

static int conns_part(struct conns *l)
{
	int r = packet_each_conn_part(l->packet, &l->next, conns_one, l);

	if (r < 0)
		return r;
	l->more = r > 0;
	l->walked = l->more || !l->next;
	if (l->walked)
		(void)fprintf(l->f, "\n],\"more\":%s}\n", l->more ? "true" : "false");
	return 0;
}

/* Fills text with what comes next, which may be nothing. */
static int conns_fill(struct conns *l)
{
	int r = 0;

	free(l->text);
	l->text = NULL;
	l->n = 0;
	l->f = open_memstream(&l->text, &l->n);
	if (!l->f)
		return -ENOMEM;
	if (!l->begun)
		conns_begin(l);
	else
		r = conns_part(l);
	return fclose(l->f) ? -ENOMEM : r;
}

static int conns_next(void *data, const char **ret, size_t *ret_n)
{
	struct conns *l = data;
	int r;

	if (l->walked)
		return 0;
	/* Switched off meanwhile, or on anew. */
	if (l->packet != l->c->host.run->packet)
		return -ESTALE;
	r = conns_fill(l);
	if (r < 0)
		return r;
	*ret = l->text;
	*ret_n = l->n;
	return 1;
}

/* "?service=NAME&limit=N". A negative: the answer has been given. */
static int conns_wanted(struct conns *l, struct MHD_Connection *conn, enum MHD_Result *ret)
{
	const char *service = MHD_lookup_connection_value(conn, MHD_GET_ARGUMENT_KIND, "service");
	const char *limit = MHD_lookup_connection_value(conn, MHD_GET_ARGUMENT_KIND, "limit");

	if (limit && num_parse_u64(limit, 0, 1ULL << 40, &l->limit) < 0) {
		*ret = control_error(conn, MHD_HTTP_BAD_REQUEST, "'limit' is a number, and 0 for all");
		return -EINVAL;
	}
	if (!service)
		return 0;
	if (!services_find(l->c->host.run->services, service)) {
		*ret = control_error(conn, MHD_HTTP_NOT_FOUND, "there is no service '%.100s': see /v1/services",
				     service);
		return -ENOENT;
	}
	l->service = strdup(service);
	if (!l->service) {
		*ret = MHD_NO;
		return -ENOMEM;
	}
	return 0;
}

enum MHD_Result control_packet_off(struct MHD_Connection *conn)
{
	return control_error(conn, MHD_HTTP_CONFLICT,
			     "the packet hook is off: name interfaces in the section 'packet' of the configuration of "
			     "'waggle run'");
}

enum MHD_Result control_get_conns(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	enum MHD_Result ret = MHD_NO;
	struct conns *l;

	(void)req;
	if (!c->host.run || !c->host.run->packet)
		return control_packet_off(conn);
	if (c->n_dumps >= CONTROL_DUMPS_MAX)
		return control_error(conn, MHD_HTTP_SERVICE_UNAVAILABLE, "%d clients read lists already: try again",
				     CONTROL_DUMPS_MAX);
	l = new0(struct conns);
	if (!l)
		return MHD_NO;
	l->c = c;
	l->packet = c->host.run->packet;
	c->n_dumps++;
	if (conns_wanted(l, conn, &ret) < 0) {
		conns_free(l);
		return ret;
	}
	return control_reply_pieces(conn, conns_next, conns_free, l);
}
