// SPDX-License-Identifier: GPL-2.0-or-later
#include "sys/diag.h"

#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "base/util.h"
#include "sys/proc.h"

int diag_destroy(const struct diag_socket *s)
{
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 req;
	} ask = {
		.head = { .nlmsg_len = sizeof(ask), .nlmsg_type = SOCK_DESTROY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.req = {
			.sdiag_family = (uint8_t)s->family,
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = ~0U,
			.id = {
				.idiag_sport = htobe16(s->local_port),
				.idiag_dport = htobe16(s->remote_port),
				.idiag_cookie = { (uint32_t)s->cookie, (uint32_t)(s->cookie >> 32) },
			},
		},
	};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr err;
		char rest[256];
	} answer;
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	ssize_t n;

	memcpy(ask.req.id.idiag_src, s->local_addr, sizeof(s->local_addr));
	memcpy(ask.req.id.idiag_dst, s->remote_addr, sizeof(s->remote_addr));
	if (fd < 0 || send(fd, &ask, sizeof(ask), 0) < 0)
		return -errno;
	n = recv(fd, &answer, sizeof(answer), 0);
	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof(answer.head) + sizeof(answer.err) || answer.head.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return answer.err.error;
}

int diag_destroy_in(uint32_t netns, const struct diag_socket *s)
{
	_cleanup_close_ int fd = netns_open(netns);
	int was = fd < 0 ? fd : netns_enter(fd), r;

	if (was < 0)
		return was;
	r = diag_destroy(s);
	netns_return(was);
	return r;
}
