// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Connections whose numbers cannot be relied upon, or that are not what they seem: they are left alone, and
 * every byte still arrives.
 */
#include "fx.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#define SOL_MPTCP_LEVEL 284
#define MPTCP_INFO_OPTION 1
#define MPTCP_INFO_FALLBACK 1

static void assert_nothing_joined(void)
{
	assert_int_equal(fx_count(fx.socks), 0);
	assert_int_equal(fx_stat(AC_STAT_JOINED), 0);
}

static int bind_any_port(int fd, struct sockaddr_in *ret)
{
	socklen_t len = sizeof(*ret);

	*ret = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (bind(fd, (struct sockaddr *)ret, len) < 0)
		return -errno;
	return getsockname(fd, (struct sockaddr *)ret, &len) < 0 ? -errno : 0;
}

static void test_self_connect(void **state)
{
	int fd = fx_tcp(AF_INET, 0);
	struct sockaddr_in self;

	assert_int_equal(bind_any_port(fd, &self), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&self, sizeof(self)), 0);
	fx_exchange(fd, fd);
	assert_nothing_joined();
	(void)close(fd);
}

/* Both SYNs get lost once, so that both ends are in SYN_SENT when the repeated ones cross. */
static void test_simultaneous_open(void **state)
{
	int lose = fx_lose(BPF_CGROUP_INET_EGRESS, FX_SYN | FX_ACK, FX_SYN);
	int a = fx_tcp(AF_INET, 0), b = fx_tcp(AF_INET, 0);
	struct sockaddr_in addr_a, addr_b;

	assert_int_equal(bind_any_port(a, &addr_a), 0);
	assert_int_equal(bind_any_port(b, &addr_b), 0);
	assert_int_equal(fcntl(a, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fcntl(b, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(connect(a, (struct sockaddr *)&addr_b, sizeof(addr_b)), -1);
	assert_int_equal(connect(b, (struct sockaddr *)&addr_a, sizeof(addr_a)), -1);
	(void)close(lose);
	fx_wait(a, POLLOUT);
	fx_wait(b, POLLOUT);
	assert_int_equal(fcntl(a, F_SETFL, 0), 0);
	assert_int_equal(fcntl(b, F_SETFL, 0), 0);
	fx_exchange(a, b);
	assert_nothing_joined();
	(void)close(a);
	(void)close(b);
}

/* Data in the SYN: the client's first number is beyond what was announced. */
static void test_fast_open(void **state)
{
	struct tcp_info info = {};
	struct sockaddr_storage addr;
	int listener, client, server;
	socklen_t len, info_len = sizeof(info);
	char buf[16] = {};

	fx_sysctl("ipv4/tcp_fastopen", "1543"); /* 0x607: client and server, without cookies, every listener */
	listener = fx_listen(AF_INET, 0, &addr, &len);
	client = fx_tcp(AF_INET, 0);
	assert_int_equal(sendto(client, "early", 5, MSG_FASTOPEN, (struct sockaddr *)&addr, len), 5);
	server = fx_accept(listener);
	assert_int_equal(recv(server, buf, sizeof(buf), 0), 5);
	assert_string_equal(buf, "early");
	assert_int_equal(getsockopt(client, IPPROTO_TCP, TCP_INFO, &info, &info_len), 0);
	if (!(info.tcpi_options & TCPI_OPT_SYN_DATA))
		fail_msg("the kernel did not send the data in the SYN");
	fx_exchange(client, server);
	assert_nothing_joined();
	assert_int_equal(fx_pend_count(), 0);
	fx_sysctl("ipv4/tcp_fastopen", "1");
	(void)close(client);
	(void)close(server);
	(void)close(listener);
}

/* The server's number is the cookie; there is no request socket to announce it. */
static void test_syn_cookies(void **state)
{
	int client, server;

	fx_sysctl("ipv4/tcp_syncookies", "2");
	fx_pair(AF_INET, &client, &server);
	fx_sysctl("ipv4/tcp_syncookies", "1");
	assert_int_equal(fx_stat(AC_STAT_ANNOUNCED), 0);
	assert_int_equal(fx_stat(AC_STAT_REMOTE), 1);
	fx_exchange(client, server);
	assert_nothing_joined();
	(void)close(client);
	(void)close(server);
}

static bool mptcp_is_spoken(int fd)
{
	uint8_t info[256] = {};
	socklen_t len = sizeof(info);
	uint32_t flags;

	if (getsockopt(fd, SOL_MPTCP_LEVEL, MPTCP_INFO_OPTION, info, &len) < 0)
		return false;
	memcpy(&flags, info + 8, sizeof(flags)); /* mptcpi_flags, behind six counters of a byte and two of padding */
	return !(flags & MPTCP_INFO_FALLBACK);
}

static bool has_mptcp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

	if (fd < 0 && getenv("CI"))
		fail_msg("this kernel has no MPTCP: %s", strerror(errno));
	if (fd < 0)
		return false;
	(void)close(fd);
	return true;
}

static void test_mptcp(void **state)
{
	struct sockaddr_storage addr;
	int listener, client, server;
	socklen_t len;

	if (!has_mptcp())
		skip();
	listener = fx_listen(AF_INET, IPPROTO_MPTCP, &addr, &len);
	client = fx_tcp(AF_INET, IPPROTO_MPTCP);
	assert_int_equal(fx_connect(client, &addr, len), 0);
	server = fx_accept(listener);
	fx_exchange(client, server);
	assert_true(mptcp_is_spoken(client) && mptcp_is_spoken(server));
	assert_nothing_joined();
	(void)close(client);
	(void)close(server);
	(void)close(listener);
}

/* A plain client of an MPTCP listener (every listener of a recent Go program): both go on by TCP. */
static void test_mptcp_listener(void **state)
{
	struct sockaddr_storage addr;
	int listener, client, server;
	socklen_t len;

	if (!has_mptcp())
		skip();
	listener = fx_listen(AF_INET, IPPROTO_MPTCP, &addr, &len);
	client = fx_tcp(AF_INET, 0);
	assert_int_equal(fx_connect(client, &addr, len), 0);
	server = fx_accept(listener);
	fx_exchange(client, server);
	(void)close(client);
	(void)close(server);
	(void)close(listener);
}

static void set_seq(int fd, int queue, uint32_t seq)
{
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof(queue)), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, sizeof(seq)), 0);
}

/*
 * TCP_REPAIR makes a connection without a handshake, with numbers of the caller's choice. Here the caller has
 * guessed the numbers of a handshake in flight; it must not get the other one's bytes.
 */
static void test_repair_is_not_believed(void **state)
{
	struct ac_key key = { .client_seq = 1000, .server_seq = 2000 };
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				  .sin_port = htons(9) };
	struct ac_pend pend = { .server_exe = fx.exe };
	int fd = fx_tcp(AF_INET, 0), on = TCP_REPAIR_ON;
	struct ac_sock st;

	fx_pend_put(&key, &pend);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)), 0);
	set_seq(fd, TCP_SEND_QUEUE, key.client_seq);
	set_seq(fd, TCP_RECV_QUEUE, key.server_seq);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_true(fx_sock(fd, &st));
	assert_int_equal(st.why, AC_WHY_REPAIR);
	assert_int_equal(st.key.client_seq, key.client_seq);
	assert_nothing_joined();
	assert_true(fx_pend_get(&key, &pend));
	assert_int_equal(pend.why, AC_WHY_REPAIR);
	(void)close(fd);
}

static uint16_t checksum(const void *data, size_t bytes)
{
	const uint8_t *p = data;
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < bytes; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* A SYN from nobody: it is announced, and answered with a reset. */
static void send_lone_syn(const struct sockaddr_in *to, uint16_t port, uint32_t seq)
{
	struct {
		uint32_t from, to;
		uint8_t zero, protocol;
		uint16_t len;
		struct tcphdr tcp;
	} packet = {
		.from = htonl(INADDR_LOOPBACK),
		.to = to->sin_addr.s_addr,
		.protocol = IPPROTO_TCP,
		.len = htons(sizeof(struct tcphdr)),
	};
	_cleanup_close_ int raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP);
	struct sockaddr_in dest = *to;

	assert_true(raw >= 0);
	packet.tcp.source = htons(port);
	packet.tcp.dest = to->sin_port;
	packet.tcp.seq = htonl(seq);
	packet.tcp.doff = sizeof(struct tcphdr) / 4;
	packet.tcp.syn = 1;
	packet.tcp.window = htons(1000);
	packet.tcp.check = checksum(&packet, sizeof(packet));
	dest.sin_port = 0;
	assert_int_equal(sendto(raw, &packet.tcp, sizeof(packet.tcp), 0, (struct sockaddr *)&dest, sizeof(dest)),
			 sizeof(packet.tcp));
}

/* What a client that never answered leaves behind does no harm to the next from the same port. */
static void test_stale_announcement(void **state)
{
	struct sockaddr_in from;
	struct sockaddr_storage addr;
	int listener, client, server, probe = fx_tcp(AF_INET, 0), one = 1;
	struct ac_pend pend;
	struct ac_key key;
	socklen_t len;

	listener = fx_listen(AF_INET, 0, &addr, &len);
	assert_int_equal(bind_any_port(probe, &from), 0);
	(void)close(probe);
	send_lone_syn((struct sockaddr_in *)&addr, ntohs(from.sin_port), 0x12345678);
	key = fx_the_pend(&pend);
	assert_int_equal(key.client_seq, 0x12345679);
	assert_true(pend.client_cookie == 0);

	client = fx_tcp(AF_INET, 0);
	assert_int_equal(setsockopt(client, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(bind(client, (struct sockaddr *)&from, sizeof(from)), 0);
	assert_int_equal(fx_connect(client, &addr, len), 0);
	server = fx_accept(listener);
	assert_true(fx_is_joined(client) && fx_is_joined(server));
	fx_exchange(client, server);
	/* The stale record is as it was. */
	key = fx_the_pend(&pend);
	assert_int_equal(key.client_seq, 0x12345679);
	assert_true(pend.client_cookie == 0 && !pend.poisoned);
	(void)close(client);
	(void)close(server);
	(void)close(listener);
}

static int listen_deferred(struct sockaddr_storage *addr, socklen_t *len)
{
	int fd = fx_listen(AF_INET, 0, addr, len), seconds = 5;

	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds)), 0);
	return fd;
}

/* The server is established by the client's first data: what went by TCP before comes out first. */
static void test_defer_accept_keeps_order(void **state)
{
	struct sockaddr_storage addr;
	char buf[64] = {};
	int listener, client, server;
	size_t have = 0;
	socklen_t len;

	listener = listen_deferred(&addr, &len);
	for (int round = 0; round < 200; round++) {
		client = fx_tcp(AF_INET, 0);
		assert_int_equal(fx_connect(client, &addr, len), 0);
		for (char c = 'a'; c <= 'h'; c++)
			assert_int_equal(send(client, &c, 1, MSG_NOSIGNAL), 1);
		server = fx_accept(listener);
		for (have = 0; have < 8;) {
			ssize_t n = recv(server, buf + have, sizeof(buf) - have, 0);

			assert_true(n > 0);
			have += (size_t)n;
		}
		assert_int_equal(have, 8);
		assert_memory_equal(buf, "abcdefgh", 8);
		fx_exchange(client, server);
		(void)close(client);
		(void)close(server);
	}
	(void)close(listener);
}

/* The client is gone before its server exists; its memory may by then be another socket. */
static void test_client_gone_before_server(void **state)
{
	struct sockaddr_storage addr;
	int listener, client, server, other_client, other_server;
	struct ac_pend pend;
	struct ac_sock st;
	socklen_t len;
	char c = 'x';

	listener = listen_deferred(&addr, &len);
	client = fx_tcp(AF_INET, 0);
	assert_int_equal(fx_connect(client, &addr, len), 0);
	(void)fx_the_pend(&pend);
	assert_true(pend.client_cookie == fx_cookie(client));
	(void)close(client);
	fx_pair(AF_INET, &other_client, &other_server);
	server = fx_accept(listener);
	assert_int_equal(recv(server, &c, 1, 0), 0);
	(void)send(server, "for nobody", 10, MSG_NOSIGNAL);
	if (fx_sock(server, &st)) {
		assert_true(st.joined_bytes == 0);
		assert_true(st.tx_why == AC_WHY_PEER_GONE || st.tx_why == AC_WHY_SHUT || st.why != AC_WHY_NONE);
	}
	/* Nobody else got it. */
	assert_int_equal(recv(other_client, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(recv(other_server, &c, 1, MSG_DONTWAIT), -1);
	fx_exchange(other_client, other_server);
	(void)close(server);
	(void)close(other_client);
	(void)close(other_server);
	(void)close(listener);
}

/* The client is in the map, its server's record is lost: the client's sends go by TCP for good. */
static void test_server_record_lost(void **state)
{
	struct sockaddr_storage addr;
	int listener, client, server;
	struct ac_pend pend;
	struct ac_key key;
	struct ac_sock st;
	socklen_t len;
	char c = 'x';

	listener = listen_deferred(&addr, &len);
	client = fx_tcp(AF_INET, 0);
	assert_int_equal(fx_connect(client, &addr, len), 0);
	key = fx_the_pend(&pend);
	fx_pend_drop(&key);
	assert_int_equal(send(client, &c, 1, MSG_NOSIGNAL), 1);
	server = fx_accept(listener);
	assert_int_equal(recv(server, &c, 1, 0), 1);
	assert_false(fx_sock(server, &st));
	fx_exchange(client, server);
	assert_true(fx_sock(client, &st));
	assert_int_equal(st.tx_why, AC_WHY_NO_PEER);
	assert_true(st.joined_bytes == 0);
	(void)close(client);
	(void)close(server);
	(void)close(listener);
	assert_int_equal(fx_count(fx.socks), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define ROW(fn) cmocka_unit_test_setup_teardown(fn, fx_load, fx_unload)
		ROW(test_self_connect),
		ROW(test_simultaneous_open),
		ROW(test_fast_open),
		ROW(test_syn_cookies),
		ROW(test_mptcp),
		ROW(test_mptcp_listener),
		ROW(test_repair_is_not_believed),
		ROW(test_stale_announcement),
		ROW(test_defer_accept_keeps_order),
		ROW(test_client_gone_before_server),
		ROW(test_server_record_lost),
#undef ROW
	};

	return cmocka_run_group_tests_name("corner", tests, fx_away, fx_home);
}
