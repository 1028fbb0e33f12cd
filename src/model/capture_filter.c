// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/capture_filter.h"

#include <errno.h>

#include "base/num.h"
#include "model/addr.h"

#define BLANKS " \t\r\n"

/* What a word begins. PROTOCOL is its own value. */
enum word {
	WORD_SERVICE = PK_CAPTURE_SERVICE,
	WORD_ADDRESS = PK_CAPTURE_ADDRESS,
	WORD_PORT = PK_CAPTURE_PORT,
	WORD_INTERFACE = PK_CAPTURE_INTERFACE,
	WORD_REASON = _PK_CAPTURE_KINDS,
	WORD_VERDICT,
	WORD_PROTOCOL,
	_WORD_MAX,
	WORD_NONE = _WORD_MAX,
};

static const struct {
	const char *text;
	enum word word;
} words[] = {
	{ "service", WORD_SERVICE }, { "host", WORD_ADDRESS },	      { "net", WORD_ADDRESS },
	{ "port", WORD_PORT },	     { "interface", WORD_INTERFACE }, { "reason", WORD_REASON },
	{ "verdict", WORD_VERDICT }, { "tcp", WORD_PROTOCOL },	      { "udp", WORD_PROTOCOL },
	{ "icmp", WORD_PROTOCOL },
};

static const struct {
	const char *word;
	uint8_t kind;
} reasons[_PK_REASON_MAX] = {
#define X(id, kind, word, text) [PK_##id] = { word, PK_KIND_##kind },
	PK_REASON_LIST(X)
#undef X
};

/* Of packets that the hook leaves alone because they are nobody's: only who asks for them gets them. */
#define REASONS_OF_OTHERS \
	(1ULL << PK_NOT_OURS | 1ULL << PK_NOT_IP | 1ULL << PK_OFF | 1ULL << PK_TRUNCATED | 1ULL << PK_FRAGMENT)
#define REASONS_ALL ((1ULL << _PK_REASON_MAX) - 1)
_Static_assert(_PK_REASON_MAX < 64, "reasons are bits of a word");

struct parse {
	struct capture_filter *f;
	char *rest;
	char *token;	/* the next one; NULL: that was all */
	uint64_t asked; /* reasons that were named, and not negated */
	bool seen[_WORD_MAX];
	struct err *err;
};

static void next(struct parse *p)
{
	p->token = strtok_r(NULL, BLANKS, &p->rest);
}

static bool is(const struct parse *p, const char *text)
{
	return p->token && streq(p->token, text);
}

static enum word word_of(const char *token)
{
	for (size_t i = 0; token && i < ARRAY_SIZE(words); i++)
		if (streq(token, words[i].text))
			return words[i].word;
	return WORD_NONE;
}

static int bad_word(const struct parse *p)
{
	if (strpbrk(p->token, "()"))
		return err_set(p->err, -EINVAL, "'%.60s': there are no parentheses: write 'port 80 or 443 and not udp'",
			       p->token);
	return err_set(p->err, -EINVAL,
		       "there is no '%.60s': service, host, net, port, interface, verdict, reason, tcp, udp and icmp are",
		       p->token);
}

static void net_of(const struct lb_addr *addr, uint8_t prefix, struct pk_capture_addr *ret)
{
	uint8_t *mask = (uint8_t *)&ret->mask;

	*ret = (struct pk_capture_addr){ .addr = *addr };
	for (unsigned int bit = 0; bit < prefix; bit++)
		mask[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
}

static int add_address(struct parse *p, size_t at)
{
	struct lb_addr addr;
	uint8_t prefix;
	struct err why;

	if (addr_parse_cidr(p->token, &addr, &prefix, &why) < 0)
		return err_set(p->err, -EINVAL,
			       "'%.60s' is no address or network: write it as 198.18.0.4 or 198.18.0.0/15", p->token);
	net_of(&addr, prefix, &p->f->addrs[at]);
	return 0;
}

static int add_port(struct parse *p, size_t at)
{
	uint64_t port;

	if (num_parse_u64(p->token, 1, 65535, &port) < 0)
		return err_set(p->err, -EINVAL, "'%.60s' is no port: write a number from 1 to 65535", p->token);
	p->f->ports[at] = (uint16_t)port;
	return 0;
}

static int add_name(struct parse *p, char **ret)
{
	*ret = strdup(p->token);
	return *ret ? 0 : err_set(p->err, -ENOMEM, "out of memory");
}

/* A value of a list. */
static int add_value(struct parse *p, enum word word)
{
	size_t at = p->f->n[word];
	int r;

	if (at == PK_CAPTURE_VALUES)
		return err_set(p->err, -EINVAL, "more than %d values before '%.60s': leave some out", PK_CAPTURE_VALUES,
			       p->token);
	switch (word) {
	case WORD_SERVICE:
		r = add_name(p, &p->f->services[at]);
		break;
	case WORD_INTERFACE:
		r = add_name(p, &p->f->interfaces[at]);
		break;
	case WORD_ADDRESS:
		r = add_address(p, at);
		break;
	default:
		r = add_port(p, at);
		break;
	}
	if (r >= 0)
		p->f->n[word]++;
	return r;
}

/* A value that is a set of bits. */
static int add_bits(struct parse *p, enum word word, uint64_t *bits)
{
	static const char *const verdicts[] = {
		[PK_KIND_SENT] = "sent",
		[PK_KIND_PASS] = "passed",
		[PK_KIND_DROP] = "dropped",
	};
	uint64_t found = 0;

	if (word == WORD_PROTOCOL)
		found = is(p, "tcp") ? PK_CAPTURE_TCP : is(p, "udp") ? PK_CAPTURE_UDP : PK_CAPTURE_ICMP;
	for (size_t i = 0; i < _PK_REASON_MAX; i++)
		if ((word == WORD_REASON && is(p, reasons[i].word)) ||
		    (word == WORD_VERDICT && is(p, verdicts[reasons[i].kind])))
			found |= 1ULL << i;
	if (!found && word == WORD_VERDICT)
		return err_set(p->err, -EINVAL, "there is no verdict '%.60s': sent, passed and dropped are", p->token);
	if (!found)
		return err_set(p->err, -EINVAL, "there is no reason '%.60s': see waggle-capture(8) for those there are",
			       p->token);
	*bits |= found;
	return 0;
}

static int add(struct parse *p, enum word word, uint64_t *bits)
{
	return word < WORD_REASON ? add_value(p, word) : add_bits(p, word, bits);
}

static void take_bits(struct parse *p, enum word word, uint64_t bits, bool negated)
{
	if (word == WORD_PROTOCOL) {
		p->f->protos &= (uint32_t)(negated ? ~bits : bits);
	} else if (word == WORD_REASON || word == WORD_VERDICT) {
		p->f->reasons &= negated ? ~bits : bits;
		p->asked |= negated ? 0 : bits;
	} else if (negated) {
		p->f->negated |= 1U << word;
	}
}

/* After "or": a value, or the word of its kind once more. */
static int parse_or(struct parse *p, enum word word)
{
	enum word other = word_of(p->token);

	if (!p->token)
		return err_set(p->err, -EINVAL, "a value is missing after 'or'");
	if (other == word && word != WORD_PROTOCOL) {
		next(p);
		return p->token ? 0 : err_set(p->err, -EINVAL, "a value is missing at the end");
	}
	if (other != (word == WORD_PROTOCOL ? word : WORD_NONE))
		return err_set(p->err, -EINVAL,
			       "'or' stands between values of one kind, as in 'port 80 or 443': '%.60s' is of another",
			       p->token);
	return 0;
}

/* "80 or 443", "80 or port 443" */
static int parse_values(struct parse *p, enum word word, uint64_t *bits)
{
	int r;

	for (;;) {
		if ((r = add(p, word, bits)) < 0)
			return r;
		next(p);
		if (!is(p, "or"))
			return 0;
		next(p);
		if ((r = parse_or(p, word)) < 0)
			return r;
	}
}

static int parse_condition(struct parse *p)
{
	bool negated = is(p, "not") || is(p, "!");
	const char *name;
	enum word word;
	uint64_t bits = 0;
	int r;

	if (negated)
		next(p);
	word = word_of(p->token);
	if (!p->token)
		return err_set(p->err, -EINVAL, "a condition is missing at the end");
	if (word == WORD_NONE)
		return bad_word(p);
	if (p->seen[word])
		return err_set(p->err, -EINVAL, "'%.60s' is there twice: join its values by 'or'", p->token);
	p->seen[word] = true;
	name = p->token;
	if (word != WORD_PROTOCOL) {
		next(p);
		if (!p->token)
			return err_set(p->err, -EINVAL, "a value is missing after '%.60s'", name);
	}
	r = parse_values(p, word, &bits);
	if (r >= 0)
		take_bits(p, word, bits, negated);
	return r;
}

static int parse(struct parse *p)
{
	int r;

	while (p->token) {
		if ((r = parse_condition(p)) < 0)
			return r;
		if (is(p, "and") || is(p, "&&")) {
			next(p);
			if (!p->token)
				return err_set(p->err, -EINVAL, "a condition is missing after 'and'");
		}
	}
	p->f->reasons &= ~(REASONS_OF_OTHERS & ~p->asked);
	return 0;
}

int capture_filter_parse(const char *text, struct capture_filter *ret, struct err *err)
{
	_cleanup_free_ char *copy = strdup(text ? text : "");
	_cleanup_(capture_filter_done) struct capture_filter f = { .reasons = REASONS_ALL,
								   .protos = PK_CAPTURE_PROTOS };
	struct parse p = { .f = &f, .err = err };
	int r;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	p.token = strtok_r(copy, BLANKS, &p.rest);
	r = parse(&p);
	if (r < 0)
		return r;
	*ret = f;
	f = (struct capture_filter){};
	return 0;
}

void capture_filter_done(struct capture_filter *f)
{
	for (size_t i = 0; i < PK_CAPTURE_VALUES; i++) {
		free(f->services[i]);
		free(f->interfaces[i]);
	}
	*f = (struct capture_filter){};
}
