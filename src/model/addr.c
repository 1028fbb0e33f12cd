// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "base/num.h"

#define ADDR_BITS 128
#define ADDR_V4_BITS 32
/* Bits before an IPv4 address that is mapped into IPv6. */
#define ADDR_MAPPED_BITS 96
#define ADDR_PORT_MAX 65535

/* How much of what was written is shown again: enough for every address, and a sentence keeps its end. */
#define SHOWN "%.80s"

_Static_assert(sizeof(struct lb_addr) == sizeof(struct in6_addr), "an address is 16 bytes");

static void addr_map_v4(const void *v4, struct lb_addr *ret)
{
	*ret = (struct lb_addr){ .v6[2] = htonl(0xffff) };
	memcpy(&ret->v6[3], v4, sizeof(ret->v6[3]));
}

bool addr_is_v4(const struct lb_addr *a)
{
	return !a->v6[0] && !a->v6[1] && a->v6[2] == htonl(0xffff);
}

/* Without brackets. */
static bool addr_parse_plain(const char *text, struct lb_addr *ret)
{
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		addr_map_v4(&v4, ret);
		return true;
	}
	return inet_pton(AF_INET6, text, ret) == 1;
}

/* "[2001:db8::1]": brackets are for IPv6. */
static bool addr_parse_in_brackets(const char *text, struct lb_addr *ret)
{
	size_t n = strlen(text);
	char plain[ADDR_TEXT_MAX];

	if (n <= 2 || n - 2 >= sizeof(plain) || text[n - 1] != ']')
		return false;
	memcpy(plain, text + 1, n - 2);
	plain[n - 2] = '\0';
	return strchr(plain, ':') && addr_parse_plain(plain, ret);
}

int addr_parse(const char *text, struct lb_addr *ret, struct err *err)
{
	struct lb_addr a;

	if (strchr(text, '%'))
		return err_set(err, -EINVAL, "'" SHOWN "' has a zone: write the address without '%%' and what follows",
			       text);
	if (!(text[0] == '[' ? addr_parse_in_brackets(text, &a) : addr_parse_plain(text, &a)))
		return err_set(err, -EINVAL,
			       "'" SHOWN "' is not an address: write IPv4 as in 198.18.0.5, or IPv6 as in 2001:db8::1",
			       text);
	*ret = a;
	return 0;
}

/* The colon before the port; NULL and a sentence if there is none that could be it. */
static const char *addr_find_port(const char *text, struct err *err)
{
	const char *colon = strrchr(text, ':');
	struct lb_addr a;

	if (text[0] == '[') {
		const char *end = strchr(text, ']');

		if (end && end[1] == ':')
			return end + 1;
		(void)err_set(err, 0, "'" SHOWN "' has no port: write it behind the bracket, as in [2001:db8::1]:80",
			      text);
		return NULL;
	}
	if (!colon) {
		(void)err_set(err, 0, "'" SHOWN "' has no port: add it, as in " SHOWN ":80", text,
			      text[0] ? text : "198.18.0.5");
		return NULL;
	}
	if (strchr(text, ':') == colon)
		return colon;
	if (addr_parse_plain(text, &a))
		(void)err_set(err, 0,
			      "'" SHOWN "' has no port: put IPv6 into brackets and add it, as in [" SHOWN "]:80", text,
			      text);
	else
		(void)err_set(err, 0,
			      "'" SHOWN "' has several colons: write ADDRESS:PORT, and IPv6 as in [2001:db8::1]:80",
			      text);
	return NULL;
}

int addr_split(const char *text, char *ret_host, size_t host_max, uint16_t *ret_port, struct err *err)
{
	const char *colon = addr_find_port(text, err);
	const char *host = text[0] == '[' ? text + 1 : text;
	uint64_t port;
	size_t n;

	if (!colon)
		return -EINVAL;
	n = (size_t)(colon - host) - (text[0] == '[');
	if (!n)
		return err_set(err, -EINVAL,
			       "'" SHOWN "' has nothing before its port: write ADDRESS:PORT, as in 198.18.0.5:80",
			       text);
	if (n >= host_max)
		return err_set(err, -EINVAL, "'" SHOWN "' is too long before its port: write at most %zu characters",
			       text, host_max - 1);
	if (num_parse_u64(colon + 1, 1, ADDR_PORT_MAX, &port) < 0 || colon[1] == '0')
		return err_set(err, -EINVAL, "'" SHOWN "' is not a port in '" SHOWN "': write a number from 1 to 65535",
			       colon + 1, text);
	memcpy(ret_host, host, n);
	ret_host[n] = '\0';
	*ret_port = (uint16_t)port;
	return 0;
}

static void addr_mask(struct lb_addr *a, uint8_t prefix)
{
	uint8_t *bytes = (uint8_t *)a;

	for (unsigned int i = 0; i < sizeof(*a); i++) {
		unsigned int kept = prefix > i * 8 ? prefix - i * 8 : 0;

		if (kept < 8)
			bytes[i] &= (uint8_t)(0xff00 >> kept);
	}
}

int addr_parse_cidr(const char *text, struct lb_addr *ret, uint8_t *ret_prefix, struct err *err)
{
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	/* What looks like IPv4 counts its prefix of 32; what is written as IPv6, mapped or not, of 128. */
	bool is_v6 = memchr(text, ':', n);
	uint64_t prefix = is_v6 ? ADDR_BITS : ADDR_V4_BITS;
	char host[ADDR_TEXT_MAX], shown[ADDR_TEXT_MAX];
	struct lb_addr a, masked;

	if (n >= sizeof(host))
		return err_set(err, -EINVAL,
			       "'" SHOWN "' is not a network: write it as in 198.18.0.0/15 or 2001:db8::/32", text);
	memcpy(host, text, n);
	host[n] = '\0';
	if (text[0] == '[' || !addr_parse_plain(host, &a))
		return err_set(err, -EINVAL,
			       "'" SHOWN "' is not a network: write it as in 198.18.0.0/15 or 2001:db8::/32", text);
	if (slash && (num_parse_u64(slash + 1, 0, prefix, &prefix) < 0 || (slash[1] == '0' && slash[2])))
		return err_set(err, -EINVAL, "'" SHOWN "' is not a prefix in '" SHOWN "': write a number from 0 to %d",
			       slash + 1, text, is_v6 ? ADDR_BITS : ADDR_V4_BITS);
	if (!is_v6)
		prefix += ADDR_MAPPED_BITS;
	masked = a;
	addr_mask(&masked, (uint8_t)prefix);
	if (memcmp(&masked, &a, sizeof(a)) != 0)
		return err_set(err, -EINVAL, "'" SHOWN "' has bits behind its prefix: write %s", text,
			       addr_format_cidr(&masked, (uint8_t)prefix, shown));
	*ret = a;
	*ret_prefix = (uint8_t)prefix;
	return 0;
}

static const char *addr_format_plain(const struct lb_addr *a, char ret[static INET6_ADDRSTRLEN])
{
	return addr_is_v4(a) ? inet_ntop(AF_INET, &a->v6[3], ret, INET6_ADDRSTRLEN) :
			       inet_ntop(AF_INET6, a, ret, INET6_ADDRSTRLEN);
}

char *addr_format(const struct lb_addr *a, uint16_t port, char ret[static ADDR_TEXT_MAX])
{
	char plain[INET6_ADDRSTRLEN];

	(void)addr_format_plain(a, plain);
	if (!port)
		(void)snprintf(ret, ADDR_TEXT_MAX, "%s", plain);
	else
		(void)snprintf(ret, ADDR_TEXT_MAX, addr_is_v4(a) ? "%s:%u" : "[%s]:%u", plain, port);
	return ret;
}

char *addr_format_cidr(const struct lb_addr *a, uint8_t prefix, char ret[static ADDR_TEXT_MAX])
{
	char plain[INET6_ADDRSTRLEN];
	/* A prefix that ends within the mapping holds more than IPv4. */
	unsigned int before = addr_is_v4(a) && prefix >= ADDR_MAPPED_BITS ? ADDR_MAPPED_BITS : 0;

	(void)addr_format_plain(a, plain);
	(void)snprintf(ret, ADDR_TEXT_MAX, "%s/%u", plain, prefix - before);
	return ret;
}

socklen_t addr_to_sockaddr(const struct lb_addr *a, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };

	memset(ret, 0, sizeof(*ret));
	if (addr_is_v4(a)) {
		memcpy(&v4.sin_addr, &a->v6[3], sizeof(v4.sin_addr));
		memcpy(ret, &v4, sizeof(v4));
		return sizeof(v4);
	}
	memcpy(&v6.sin6_addr, a, sizeof(v6.sin6_addr));
	memcpy(ret, &v6, sizeof(v6));
	return sizeof(v6);
}

int addr_from_sockaddr(const struct sockaddr *sa, struct lb_addr *ret, uint16_t *ret_port)
{
	struct sockaddr_in6 v6;
	struct sockaddr_in v4;

	switch (sa->sa_family) {
	case AF_INET:
		memcpy(&v4, sa, sizeof(v4));
		addr_map_v4(&v4.sin_addr, ret);
		*ret_port = ntohs(v4.sin_port);
		return 0;
	case AF_INET6:
		memcpy(&v6, sa, sizeof(v6));
		memcpy(ret, &v6.sin6_addr, sizeof(*ret));
		*ret_port = ntohs(v6.sin6_port);
		return 0;
	default:
		return -EAFNOSUPPORT;
	}
}
