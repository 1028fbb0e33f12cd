/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conform: what programs can see of a TCP socket, on plain TCP and on a joined pair. A row is a function that
 * uses a fresh pair and notes what it saw; the notes of both runs must be the same text. Notes hold no times,
 * addresses or sizes that may vary from run to run.
 *
 * A joined pair is one of a program that was named by --trust. Where such a one is known to differ, the row is run
 * once more by a program that nobody has named: it does what the row does while it is watched on plain TCP, earns
 * what it can by sockets that poll, and does it again. Then it must see what TCP shows, unless .always.
 */
#pragma once

#include <errno.h>

#include "../tools/tool.h"

#define SEEN_BYTES 1024

struct pair {
	int a, b;     /* client and server; -1 with .raw */
	int listener; /* for rows that make the connection themselves */
	struct sockaddr_storage to;
	socklen_t to_len;
	char *seen;
};

struct row {
	const char *name;
	void (*fn)(struct pair *p);
	bool raw;	     /* the row connects and accepts by itself */
	const char *differs; /* why the joined result is known to differ; NULL: it must be equal */
	bool always;	     /* also for a program that was watched while it did it */
	bool unjoins;	     /* even one of --trust is not joined any more after this, and so sees what TCP shows */
};

extern const struct row rows_read[], rows_write[], rows_end[], rows_more[]; /* each ends with a NULL name */

/* Adds "LABEL=VALUE"; a negative value is what a call returned, and errno's name is noted. */
void note(struct pair *p, const char *label, long value);
void note_text(struct pair *p, const char *fmt, ...) _printf_(2, 3);

void put(int fd, size_t n);				/* n bytes of a known stream, from its start */
long poll_in(int fd, int timeout_ms, short events);	/* revents within these, 0: timeout */
void take(struct pair *p, int fd, size_t n, int flags); /* one recv, noted with its first bytes' rightness */
long ioctl_int(int fd, unsigned long request);
void settle(void); /* longer than anything on its way takes */

/* Runs fn(data) in a thread after this many ms; ended before the row is. */
void later(int ms, void (*fn)(void *data), void *data);
