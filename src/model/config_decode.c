// SPDX-License-Identifier: GPL-2.0-or-later
/* The engine: maps of keys by table, and the values that keys can have. */
#include "model/config_priv.h"

#include <ctype.h>
#include <errno.h>

#include "base/num.h"

#define WORD_MAX 32
/* More of a table is not listed in a sentence. */
#define LISTED_MAX 400

static const char *const kind_words[] = {
	[CONFIG_SCALAR] = "a single value",
	[CONFIG_LIST] = "a list",
	[CONFIG_MAP] = "a map",
};

bool config_is_null(const struct config_node *node)
{
	static const char *const words[] = { "", "~", "null", "Null", "NULL" };

	if (node->kind != CONFIG_SCALAR || node->is_quoted)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (streq(node->text, words[i]))
			return true;
	return false;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static bool same_letter(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/*
 * How many letters to change, add, remove or swap with their neighbours to make b of a; words longer than WORD_MAX are
 * far from all others.
 */
static size_t word_distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b), d[WORD_MAX + 1][WORD_MAX + 1];

	if (n > WORD_MAX || m > WORD_MAX)
		return WORD_MAX;
	for (size_t i = 0; i <= n; i++)
		d[i][0] = i;
	for (size_t k = 0; k <= m; k++)
		d[0][k] = k;
	for (size_t i = 1; i <= n; i++) {
		for (size_t k = 1; k <= m; k++) {
			d[i][k] = least(d[i - 1][k], d[i][k - 1]) + 1;
			d[i][k] = least(d[i][k], d[i - 1][k - 1] + !same_letter(a[i - 1], b[k - 1]));
			if (i > 1 && k > 1 && same_letter(a[i - 1], b[k - 2]) && same_letter(a[i - 2], b[k - 1]))
				d[i][k] = least(d[i][k], d[i - 2][k - 2] + 1);
		}
	}
	return d[n][m];
}

/* A word that may have been meant, if one is near. */
struct guess {
	const char *word;
	size_t distance;
	char all[LISTED_MAX];
};

static void guess_add(struct guess *g, const char *written, const char *word)
{
	size_t distance = word_distance(written, word), n = strlen(g->all);

	/* A third of the letters may be wrong. */
	if (distance <= (strlen(word) + 2) / 3 && (!g->word || distance < g->distance)) {
		g->word = word;
		g->distance = distance;
	}
	(void)snprintf(g->all + n, sizeof(g->all) - n, "%s%s", n ? ", " : "", word);
}

void config_wrong_word(struct config_decode *d, const struct config_node *node, const char *what, const char *word,
		       const char *const *words)
{
	struct guess g = {};

	for (size_t i = 0; words[i]; i++)
		guess_add(&g, word, words[i]);
	if (g.word)
		config_error(d, node, "'%s' is not known as %s: write %s", config_shown(word).text, what, g.word);
	else
		config_error(d, node, "'%s' is not known as %s: write one of %s", config_shown(word).text, what, g.all);
}

static void unknown_key(struct config_decode *d, const struct config_node *node, const struct config_key *keys,
			const char *what)
{
	struct guess g = {};

	for (const struct config_key *k = keys; k->name; k++)
		guess_add(&g, node->text, k->name);
	if (g.word)
		config_error(d, node, "unknown key '%s' in %s: write %s", config_shown(node->text).text, what, g.word);
	else
		config_error(d, node, "unknown key '%s' in %s: it can have %s", config_shown(node->text).text, what,
			     g.all);
}

/* The row of a key; NULL and a finding if it is not a key, not a known one, or a second of its name. */
static const struct config_key *map_key(struct config_decode *d, const struct config_node *node,
					const struct config_key *keys, const char *what,
					const struct config_node **seen)
{
	if (node->kind == CONFIG_BROKEN)
		return NULL;
	if (node->kind != CONFIG_SCALAR) {
		config_error(d, node, "%s as a key in %s: write KEY: VALUE", kind_words[node->kind], what);
		return NULL;
	}
	for (const struct config_key *k = keys; k->name; k++) {
		const struct config_node **first = &seen[k - keys];

		if (!streq(node->text, k->name))
			continue;
		if (*first) {
			struct config_pos pos = config_pos(d, *first);

			config_error(d, node, "'%s' is there twice, first at %s: keep one", k->name,
				     config_place(&pos).text);
			return NULL;
		}
		*first = node;
		return k;
	}
	unknown_key(d, node, keys, what);
	return NULL;
}

void config_map(struct config_decode *d, const struct config_node *node, const struct config_key *keys,
		const char *what, void *object)
{
	const struct config_node *seen[32] = {};

	if (node->kind == CONFIG_BROKEN)
		return;
	if (node->kind != CONFIG_MAP) {
		config_error(d, node, "%s wants keys and values, not %s: write %s: %s", what,
			     config_is_null(node) ? "nothing" : kind_words[node->kind], keys[0].name, keys[0].example);
		return;
	}
	for (const struct config_node *k = node->first; k; k = k->next->next) {
		const struct config_key *key = map_key(d, k, keys, what, seen);

		if (!key || k->next->kind == CONFIG_BROKEN)
			continue;
		if (config_is_null(k->next))
			config_error(d, k, "'%s' has no value: write %s: %s, or leave the line out", key->name,
				     key->name, key->example);
		else
			key->fn(d, k->next, key, (char *)object + key->offset);
	}
	for (const struct config_key *k = keys; k->name; k++)
		if ((k->flags & CONFIG_REQUIRED) && !seen[k - keys])
			config_error(d, node, "%s has no '%s': add %s: %s", what, k->name, k->name, k->example);
}

const struct config_node *config_find(const struct config_node *map, const char *name)
{
	if (map->kind != CONFIG_MAP)
		return NULL;
	for (const struct config_node *k = map->first; k; k = k->next->next)
		if (k->kind == CONFIG_SCALAR && streq(k->text, name))
			return k->next;
	return NULL;
}

void *config_grow(struct config_decode *d, void **v, size_t *n, size_t add, size_t size)
{
	char *grown = reallocarray(*v, *n + add, size);

	if (!grown) {
		d->no_memory = true;
		return NULL;
	}
	*v = grown;
	memset(grown + *n * size, 0, add * size);
	grown += *n * size;
	*n += add;
	return grown;
}

bool config_note(struct config_decode *d, struct config_nodes *nodes, const struct config_node *node)
{
	/* By doubling: services come one at a time, from many files. */
	if ((nodes->n & (nodes->n - 1)) == 0) {
		const struct config_node **v = reallocarray(nodes->v, nodes->n ? nodes->n * 2 : 1, sizeof(*v));

		if (!v) {
			d->no_memory = true;
			return false;
		}
		nodes->v = v;
	}
	nodes->v[nodes->n++] = node;
	return true;
}

bool config_is_list(struct config_decode *d, const struct config_node *node, const struct config_key *key)
{
	if (node->kind == CONFIG_LIST)
		return true;
	config_error(d, node, "'%s' wants a list, not %s: write %s: %s", key->name, kind_words[node->kind], key->name,
		     key->example);
	return false;
}

const char *config_text(struct config_decode *d, const struct config_node *node, const struct config_key *key)
{
	if (node->kind == CONFIG_BROKEN)
		return NULL;
	if (node->kind != CONFIG_SCALAR)
		config_error(d, node, "'%s' wants a single value, not %s: write it as in %s", key->name,
			     kind_words[node->kind], key->example);
	else if (config_is_null(node) || !node->text[0])
		config_error(d, node, "'%s' has an empty value: write it as in %s", key->name, key->example);
	else
		return node->text;
	return NULL;
}

void config_strdup(struct config_decode *d, const char *text, char **slot)
{
	*slot = strdup(text);
	if (!*slot)
		d->no_memory = true;
}

void config_bool(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot)
{
	const char *text = config_text(d, node, key);

	if (!text)
		return;
	if (!node->is_quoted && (streq(text, "true") || streq(text, "false")))
		*(bool *)slot = text[0] == 't';
	else
		config_error(d, node, "'%s' in '%s' is neither true nor false: write one of them%s",
			     config_shown(text).text, key->name, node->is_quoted ? ", without quotes" : "");
}

void config_u32(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot)
{
	const char *text = config_text(d, node, key);
	uint64_t v;

	if (!text)
		return;
	/* 010 is eight for some readers of YAML, and ten for others. */
	if (num_parse_u64(text, key->min, key->max, &v) < 0 || (text[0] == '0' && text[1]))
		config_error(d, node, "'%s' does not fit '%s': write a number from %llu to %llu",
			     config_shown(text).text, key->name, key->min, key->max);
	else
		*(uint32_t *)slot = (uint32_t)v;
}

static const struct {
	const char *name;
	unsigned int ms;
} units[] = {
	{ "h", 3600000 },
	{ "m", 60000 },
	{ "s", 1000 },
	{ "ms", 1 },
};

struct config_duration config_duration(unsigned int ms)
{
	struct config_duration ret = { "0s" };

	for (size_t i = 0; ms && i < ARRAY_SIZE(units); i++) {
		if (ms % units[i].ms)
			continue;
		(void)snprintf(ret.text, sizeof(ret.text), "%u%s", ms / units[i].ms, units[i].name);
		break;
	}
	return ret;
}

/* -ENODATA: a number without a unit. */
static int parse_ms(const char *text, uint64_t *ret)
{
	size_t n = strspn(text, "0123456789");
	char number[16];
	uint64_t v;

	if (!n || n >= sizeof(number) || (text[0] == '0' && n > 1))
		return -EINVAL;
	if (!text[n])
		return -ENODATA;
	memcpy(number, text, n);
	number[n] = '\0';
	if (num_parse_u64(number, 0, UINT32_MAX, &v) < 0)
		return -ERANGE;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (streq(text + n, units[i].name)) {
			*ret = v * units[i].ms;
			return 0;
		}
	}
	return -EINVAL;
}

void config_ms(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot)
{
	const char *text = config_text(d, node, key);
	uint64_t v = 0;
	int r;

	if (!text)
		return;
	r = parse_ms(text, &v);
	if (r == -ENODATA)
		config_error(d, node, "'%s' in '%s' has no unit: write %ss, or %sms, %sm, %sh", text, key->name, text,
			     text, text, text);
	else if (r == -EINVAL)
		config_error(d, node, "'%s' in '%s' is not a time: write a whole number and ms, s, m or h, as in %s",
			     config_shown(text).text, key->name, key->example);
	else if (r < 0 || v < key->min || v > key->max)
		config_error(d, node, "'%s' does not fit '%s': write a time from %s to %s", config_shown(text).text,
			     key->name, config_duration((unsigned int)key->min).text,
			     config_duration((unsigned int)key->max).text);
	else
		*(unsigned int *)slot = (unsigned int)v;
}

void config_word(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot)
{
	const char *text = config_text(d, node, key);

	if (!text)
		return;
	for (unsigned int i = 0; key->words[i]; i++) {
		if (streq(text, key->words[i])) {
			*(unsigned int *)slot = i;
			return;
		}
	}
	config_wrong_word(d, node, key->name, text, key->words);
}

bool config_name_is_valid(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return n && n <= CONFIG_NAME_MAX && !text[n] && isalnum((unsigned char)text[0]);
}

void config_name(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot)
{
	const char *text = config_text(d, node, key);

	if (!text)
		return;
	if (config_name_is_valid(text))
		config_strdup(d, text, slot);
	else
		config_error(d, node,
			     "'%s' is not a name: write 1 to %d of letters, digits, '.', '_' and '-', as in %s",
			     config_shown(text).text, CONFIG_NAME_MAX, key->example);
}

/* "/a//b/" -> "/a/b"; NULL if there is a "..", or no slash at the beginning. */
static char *path_shortened(const char *text)
{
	_cleanup_free_ char *ret = malloc(strlen(text) + 2);
	size_t n = 0;

	if (!ret || text[0] != '/')
		return NULL;
	while (*text) {
		size_t part;

		text += strspn(text, "/");
		part = strcspn(text, "/");
		if (part == 2 && strncmp(text, "..", 2) == 0)
			return NULL;
		if (part && !(part == 1 && text[0] == '.')) {
			ret[n++] = '/';
			memcpy(ret + n, text, part);
			n += part;
		}
		text += part;
	}
	if (!n)
		ret[n++] = '/';
	ret[n] = '\0';
	return TAKE_PTR(ret);
}

void config_path(struct config_decode *d, const struct config_node *node, const struct config_key *key, void *slot)
{
	const char *text = config_text(d, node, key);
	char *path;

	if (!text)
		return;
	path = strlen(text) < 4096 ? path_shortened(text) : NULL;
	if (path)
		*(char **)slot = path;
	else
		config_error(d, node, "'%s' in '%s' is not a full path: begin it with '/', without '..', as in %s",
			     config_shown(text).text, key->name, key->example);
}

void config_each(struct config_decode *d, const struct config_node *node, const struct config_key *key,
		 void (*fn)(struct config_decode *d, const struct config_node *entry, const struct config_key *key,
			    void *data),
		 void *data)
{
	if (node->kind != CONFIG_LIST) {
		fn(d, node, key, data);
		return;
	}
	if (!node->n)
		config_error(d, node, "'%s' is an empty list: leave the line out, or write entries as in %s", key->name,
			     key->example);
	for (const struct config_node *e = node->first; e; e = e->next)
		if (e->kind != CONFIG_BROKEN)
			fn(d, e, key, data);
}
