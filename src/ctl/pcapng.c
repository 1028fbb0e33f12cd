// SPDX-License-Identifier: GPL-2.0-or-later
#include "ctl/pcapng.h"

#include <errno.h>

#ifndef WAGGLE_VERSION
#define WAGGLE_VERSION "unknown"
#endif

enum block {
	BLOCK_INTERFACE = 1,
	BLOCK_STATISTICS = 5,
	BLOCK_PACKET = 6,
	BLOCK_SECTION = 0x0a0d0d0a,
};

#define BYTE_ORDER_MAGIC 0x1a2b3c4dU
#define LINK_ETHERNET 1
#define NANOSECONDS 9

/* Options: the end and the comment are those of every block. */
enum option {
	OPTION_END = 0,
	OPTION_COMMENT = 1,
	OPTION_SECTION_PROGRAM = 4,
	OPTION_INTERFACE_NAME = 2,
	OPTION_INTERFACE_DESCRIPTION = 3,
	OPTION_INTERFACE_RESOLUTION = 9,
	OPTION_PACKET_FLAGS = 2,
	OPTION_PACKET_ID = 5,
	OPTION_PACKET_VERDICT = 7,
	OPTION_STATISTICS_DROPPED = 5,
};

/* A block grows in memory, for its length stands before it. */
struct buffer {
	FILE *f;
	char *v;
	size_t n;
};

static int buffer_open(struct buffer *b)
{
	*b = (struct buffer){};
	b->f = open_memstream(&b->v, &b->n);
	return b->f ? 0 : -ENOMEM;
}

static void put(struct buffer *b, const void *bytes, size_t n)
{
	static const uint8_t padding[3];

	(void)fwrite(bytes, 1, n, b->f);
	(void)fwrite(padding, 1, (4 - n % 4) % 4, b->f);
}

static void put_u32(struct buffer *b, uint32_t v)
{
	put(b, &v, sizeof(v));
}

/* Moments stand with their high half first, whatever the byte order. */
static void put_moment(struct buffer *b, uint64_t ns)
{
	put_u32(b, (uint32_t)(ns >> 32));
	put_u32(b, (uint32_t)ns);
}

static void put_option(struct buffer *b, enum option code, const void *value, size_t n)
{
	uint16_t head[2] = { (uint16_t)code, (uint16_t)n };

	put(b, head, sizeof(head));
	put(b, value, n);
}

static void put_text(struct buffer *b, enum option code, const char *text)
{
	size_t n = strlen(text);

	put_option(b, code, text, n < UINT16_MAX ? n : UINT16_MAX);
}

/* Writes the block, and frees it. */
static int buffer_close(struct buffer *b, enum block type, FILE *out)
{
	_cleanup_free_ char *v = NULL;
	uint32_t head[2] = { type };

	put_u32(b, OPTION_END);
	if (fclose(b->f)) {
		free(b->v);
		return -ENOMEM;
	}
	v = b->v;
	head[1] = (uint32_t)(b->n + 3 * sizeof(uint32_t));
	(void)fwrite(head, 1, sizeof(head), out);
	(void)fwrite(v, 1, b->n, out);
	(void)fwrite(&head[1], 1, sizeof(head[1]), out);
	return 0;
}

int pcapng_begin(struct pcapng *p, FILE *f, uint32_t snaplen)
{
	/* Version 1.0. */
	const uint16_t version[2] = { 1, 0 };
	struct buffer b;

	*p = (struct pcapng){ .f = f, .snaplen = snaplen };
	if (buffer_open(&b) < 0)
		return -ENOMEM;
	put_u32(&b, BYTE_ORDER_MAGIC);
	put(&b, version, sizeof(version));
	/* How long the section is, is not known yet. */
	put_moment(&b, UINT64_MAX);
	put_text(&b, OPTION_SECTION_PROGRAM, "waggle " WAGGLE_VERSION);
	return buffer_close(&b, BLOCK_SECTION, f);
}

static int interface_write(struct pcapng *p, const struct pcapng_packet *packet)
{
	const uint16_t link[2] = { LINK_ETHERNET, 0 };
	const uint8_t resolution = NANOSECONDS;
	struct buffer b;

	if (buffer_open(&b) < 0)
		return -ENOMEM;
	put(&b, link, sizeof(link));
	put_u32(&b, p->snaplen);
	put_text(&b, OPTION_INTERFACE_NAME, packet->interface);
	put_text(&b, OPTION_INTERFACE_DESCRIPTION, packet->description);
	put_option(&b, OPTION_INTERFACE_RESOLUTION, &resolution, sizeof(resolution));
	return buffer_close(&b, BLOCK_INTERFACE, p->f);
}

/* The number of the packet's interface, which is described now if it is met for the first time. */
static int interface_of(struct pcapng *p, const struct pcapng_packet *packet, uint32_t *ret)
{
	_cleanup_free_ char *key = NULL;
	char **v;

	if (asprintf(&key, "%s\n%s", packet->interface, packet->description) < 0) {
		key = NULL;
		return -ENOMEM;
	}
	for (*ret = 0; *ret < p->n_interfaces; (*ret)++)
		if (streq(p->interfaces[*ret], key))
			return 0;
	v = reallocarray(p->interfaces, p->n_interfaces + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	p->interfaces = v;
	if (interface_write(p, packet) < 0)
		return -ENOMEM;
	p->interfaces[p->n_interfaces++] = TAKE_PTR(key);
	return 0;
}

int pcapng_packet(struct pcapng *p, const struct pcapng_packet *packet)
{
	uint8_t verdict[1 + sizeof(packet->verdict)] = { (uint8_t)packet->verdict_of };
	uint32_t number, flags = packet->direction;
	struct buffer b;
	int r = interface_of(p, packet, &number);

	if (r < 0)
		return r;
	if (buffer_open(&b) < 0)
		return -ENOMEM;
	put_u32(&b, number);
	put_moment(&b, packet->at_ns);
	put_u32(&b, packet->taken);
	put_u32(&b, packet->length);
	put(&b, packet->data, packet->taken);
	if (packet->comment)
		put_text(&b, OPTION_COMMENT, packet->comment);
	put_option(&b, OPTION_PACKET_FLAGS, &flags, sizeof(flags));
	put_option(&b, OPTION_PACKET_ID, &packet->id, sizeof(packet->id));
	memcpy(verdict + 1, &packet->verdict, sizeof(packet->verdict));
	if (packet->verdict_of != PCAPNG_VERDICT_NONE)
		put_option(&b, OPTION_PACKET_VERDICT, verdict, sizeof(verdict));
	return buffer_close(&b, BLOCK_PACKET, p->f);
}

void pcapng_end(struct pcapng *p, uint64_t at_ns, uint64_t lost)
{
	struct buffer b;

	if (!p->n_interfaces || buffer_open(&b) < 0)
		return;
	put_u32(&b, 0);
	put_moment(&b, at_ns);
	put_option(&b, OPTION_STATISTICS_DROPPED, &lost, sizeof(lost));
	(void)buffer_close(&b, BLOCK_STATISTICS, p->f);
}

void pcapng_done(struct pcapng *p)
{
	for (uint32_t i = 0; i < p->n_interfaces; i++)
		free(p->interfaces[i]);
	free(p->interfaces);
	*p = (struct pcapng){};
}
