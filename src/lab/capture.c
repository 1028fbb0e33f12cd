// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab/capture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "sys/proc.h"

#define IFACE "eth0"
#define ROOM_BYTES (64 << 20)

/* A packet socket for all protocols sees what leaves too; one for IP alone would see arrivals only. */
static int open_socket(void)
{
	_cleanup_close_ int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int room = ROOM_BYTES;

	if (fd < 0)
		return -errno;
	addr.sll_ifindex = (int)if_nametoindex(IFACE);
	if (!addr.sll_ifindex || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) < 0 ||
	    bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int capture_start(const struct lab *lab, const char *host, uint16_t port, const char *peer, struct capture *ret,
		  struct err *err)
{
	struct capture capture = { .fd = -1, .port = port };
	int was;

	if (inet_pton(AF_INET, peer, &capture.peer) != 1)
		return err_set(err, -EINVAL, "'%s' is not an IPv4 address", peer);
	was = netns_enter(lab_netns(lab, host));
	if (was < 0)
		return err_set(err, was, "cannot enter the namespace of '%s': %s", host, strerror(-was));
	capture.fd = open_socket();
	netns_return(was);
	if (capture.fd < 0)
		return err_set(err, capture.fd, "cannot capture on '%s': %s", host, strerror(-capture.fd));
	*ret = capture;
	return 0;
}

/* The ports of the peer that it has connected from since the capture began. */
struct ports {
	bool seen[65536];
};

/* One packet from its IP header on; bytes is how many of them were copied. */
static void count_packet(const struct capture *capture, const unsigned char *data, size_t bytes, struct ports *ports,
			 struct capture_counts *counts)
{
	struct iphdr ip;
	struct tcphdr tcp;
	size_t ip_len, headers;
	bool from_peer;
	uint16_t peer_port;

	if (bytes < sizeof(ip))
		return;
	memcpy(&ip, data, sizeof(ip));
	ip_len = (size_t)ip.ihl * 4;
	if (ip.version != 4 || ip.protocol != IPPROTO_TCP || bytes < ip_len + sizeof(tcp))
		return;
	memcpy(&tcp, data + ip_len, sizeof(tcp));
	from_peer = ip.saddr == capture->peer;
	if (!from_peer && ip.daddr != capture->peer)
		return;
	if (ntohs(from_peer ? tcp.dest : tcp.source) != capture->port)
		return;
	peer_port = ntohs(from_peer ? tcp.source : tcp.dest);
	if (from_peer && tcp.syn)
		ports->seen[peer_port] = true;
	if (!ports->seen[peer_port])
		return;
	headers = ip_len + (size_t)tcp.doff * 4;
	counts->packets++;
	counts->syn += tcp.syn;
	counts->fin += tcp.fin;
	counts->rst += tcp.rst;
	if (ntohs(ip.tot_len) > headers)
		counts->payload_bytes += ntohs(ip.tot_len) - headers;
}

int capture_stop(struct capture *capture, struct capture_counts *ret, struct err *err)
{
	_cleanup_close_ int fd = TAKE_FD(capture->fd);
	_cleanup_free_ struct ports *ports = new0(struct ports);
	struct capture_counts counts = {};
	struct tpacket_stats stats = {};
	socklen_t len = sizeof(stats);

	if (fd < 0)
		return 0;
	if (!ports)
		return err_set(err, -ENOMEM, "out of memory");
	for (;;) {
		unsigned char data[128];
		struct sockaddr_ll from = {};
		socklen_t from_len = sizeof(from);
		ssize_t n = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &from_len);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return err_set(err, -errno, "cannot read the capture: %s", strerror(errno));
		if (from.sll_protocol == htons(ETH_P_IP))
			count_packet(capture, data, (size_t)n, ports, &counts);
	}
	if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) < 0)
		return err_set(err, -errno, "cannot read the capture's statistics: %s", strerror(errno));
	counts.lost = stats.tp_drops;
	*ret = counts;
	return 0;
}
