// SPDX-License-Identifier: GPL-2.0-or-later
/* The file of learned executables: what is accepted is within bounds, and reads the same after it was written. */
#include <fcntl.h>
#include <stdint.h>

#include "base/util.h"
#include "model/learned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_round_trip(const struct learned *v, size_t n)
{
	char path[64];
	struct learned *again = NULL;
	size_t n_again = 0;

	(void)snprintf(path, sizeof(path), "/dev/shm/waggle-fuzz-%d", getpid());
	if (learned_write(path, v, n) < 0 || learned_read(path, &again, &n_again, NULL) < 0 || n_again != n)
		abort();
	for (size_t i = 0; i < n; i++)
		if (!streq(v[i].path, again[i].path) || !streq(v[i].comm, again[i].comm) || v[i].ino != again[i].ino ||
		    v[i].dev != again[i].dev || v[i].size != again[i].size || v[i].mtime != again[i].mtime ||
		    v[i].state != again[i].state)
			abort();
	learned_free(again, n_again);
	(void)unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct learned *v = NULL;
	struct err err = {};
	size_t n = 0;

	if (learned_parse((const char *)data, bytes, &v, &n, &err) < 0) {
		if (v || n || !err.text[0])
			abort();
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		if (v[i].path[0] != '/' || !learned_state_word(v[i].state) || strlen(v[i].comm) >= sizeof(v[i].comm))
			abort();
	check_round_trip(v, n);
	learned_free(v, n);
	return 0;
}
