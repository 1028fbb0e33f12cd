// SPDX-License-Identifier: GPL-2.0-or-later
/* GET /v1/explain: where a flow would go, as the packet hook's own program says (hook/packet_explain.c). */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>

#include "daemon/control_priv.h"
#include "daemon/run.h"

static const char *argument(struct MHD_Connection *conn, const char *name)
{
	return MHD_lookup_connection_value(conn, MHD_GET_ARGUMENT_KIND, name);
}

static int endpoint_of(struct MHD_Connection *conn, const char *name, struct lb_addr *ret, uint16_t *ret_port,
		       struct err *err)
{
	const char *text = argument(conn, name);
	char host[ADDR_TEXT_MAX];
	struct err why = {};

	if (!text)
		return err_set(err, -EINVAL, "say '%s': an address and a port", name);
	if (addr_split(text, host, sizeof(host), ret_port, &why) < 0 || addr_parse(host, ret, &why) < 0)
		return err_set(err, -EINVAL, "'%s' is an address and a port: %s", name, why.text);
	return 0;
}

/* "?client=ADDRESS:PORT&service=ADDRESS:PORT&protocol=udp&interface=NAME" */
static int flow_of(struct MHD_Connection *conn, struct packet_flow *ret, struct err *err)
{
	const char *protocol = argument(conn, "protocol");
	int r;

	*ret = (struct packet_flow){ .proto = IPPROTO_TCP, .interface = argument(conn, "interface") };
	if ((r = endpoint_of(conn, "client", &ret->client, &ret->client_port, err)) < 0 ||
	    (r = endpoint_of(conn, "service", &ret->listen, &ret->port, err)) < 0)
		return r;
	if (addr_is_v4(&ret->client) != addr_is_v4(&ret->listen))
		return err_set(err, -EINVAL, "'client' and 'service' are both IPv4, or both IPv6");
	if (protocol && streq(protocol, "udp"))
		ret->proto = IPPROTO_UDP;
	else if (protocol && !streq(protocol, "tcp"))
		return err_set(err, -EINVAL, "'protocol' is tcp or udp");
	return 0;
}

static json_t *endpoint_json(const struct lb_addr *addr, uint16_t port)
{
	char text[ADDR_TEXT_MAX];

	return port ? json_string(addr_format(addr, port, text)) : json_null();
}

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

static json_t *mac_json(const uint8_t mac[6])
{
	return json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static json_t *hop_json(const struct packet_told *told)
{
	char name[IF_NAMESIZE];

	if (!told->has_hop)
		return json_null();
	return json_pack("{s:o, s:o, s:o, s:i}", "interface", text_or_null(if_indextoname(told->hop.ifindex, name)),
			 "mac", mac_json(told->hop.dmac), "source_mac", mac_json(told->hop.smac), "mtu",
			 (int)told->hop.mtu);
}

/* The connection that the flow has, or that its next packet would make. */
static int add_conn(const struct run *run, const struct packet_told *told, json_t *o)
{
	const struct backend *b = told->has_conn ? services_backend_of(run->services, told->conn.backend) : NULL;
	struct packet_ends ends = {};

	if (told->has_conn)
		packet_conn_ends(run->packet, &told->conn, &ends);
	return json_object_set_new(o, "connection",
				   text_or_null(!told->has_conn ? NULL :
						told->is_new	? "new" :
								  "existing")) ||
	       json_object_set_new(o, "state",
				   text_or_null(told->has_conn && !told->is_new && told->conn.state < _PK_STATE_MAX ?
							packet_state_words[told->conn.state] :
							NULL)) ||
	       json_object_set_new(o, "backend", endpoint_json(&ends.backend, ends.backend_port)) ||
	       json_object_set_new(o, "backend_name", text_or_null(b ? b->name : NULL)) ||
	       json_object_set_new(o, "backend_state", text_or_null(b ? backend_state_words[b->state] : NULL)) ||
	       json_object_set_new(o, "source", endpoint_json(&ends.source, ends.source_port));
}

static int add_service(const struct run *run, const struct packet_told *told, json_t *o)
{
	bool is_service = told->plan.service != LB_NONE;
	uint32_t id = told->has_conn && !told->is_new ? told->conn.service : told->plan.service;
	const struct service *sv = id != LB_NONE ? services_service_of(run->services, id) : NULL;
	uint8_t forward = told->has_conn ? told->conn.forward : told->plan.forward;

	return json_object_set_new(o, "service", text_or_null(sv ? sv->name : NULL)) ||
	       json_object_set_new(o, "scheduler",
				   text_or_null(is_service && told->plan.scheduler < _LB_SCHEDULER_MAX ?
							lb_scheduler_words[told->plan.scheduler] :
							NULL)) ||
	       json_object_set_new(o, "forward",
				   text_or_null((is_service || told->has_conn) && forward < _LB_FORWARD_MAX ?
							lb_forward_words[forward] :
							NULL));
}

static json_t *told_json(const struct run *run, const struct packet_flow *flow, const struct packet_told *told)
{
	static const char *const kinds[] = {
		[PK_KIND_SENT] = "sent",
		[PK_KIND_PASS] = "passed",
		[PK_KIND_DROP] = "dropped",
	};
	json_t *o = json_pack("{s:o, s:o, s:s, s:s, s:s, s:o, s:s, s:s, s:s}", "client",
			      endpoint_json(&flow->client, flow->client_port), "listen",
			      endpoint_json(&flow->listen, flow->port), "protocol",
			      flow->proto == IPPROTO_UDP ? "udp" : "tcp", "interface", told->attach->name, "hook",
			      told->attach->hook, "next_hop", hop_json(told), "verdict",
			      kinds[packet_reason_kind(told->reason)], "reason", packet_reason_words[told->reason],
			      "text", packet_reason_texts[told->reason]);

	if (o && (add_service(run, told, o) || add_conn(run, told, o))) {
		json_decref(o);
		return NULL;
	}
	return o;
}

enum MHD_Result control_get_explain(struct control *c, struct MHD_Connection *conn, struct request *req)
{
	const struct run *run = c->host.run;
	struct packet_told told;
	struct packet_flow flow;
	struct err err = {};
	int r;

	(void)req;
	if (!run || !run->packet)
		return control_packet_off(conn);
	if (flow_of(conn, &flow, &err) < 0)
		return control_error(conn, MHD_HTTP_BAD_REQUEST, "%s", err.text);
	r = packet_explain(run->packet, &flow, &told, &err);
	if (r < 0)
		return control_error(conn, r == -ENODEV ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_INTERNAL_SERVER_ERROR, "%s",
				     err.text);
	return control_reply(conn, MHD_HTTP_OK, told_json(run, &flow, &told));
}
