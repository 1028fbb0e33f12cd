// SPDX-License-Identifier: GPL-2.0-or-later
#include "ctl/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "model/wire.h"

#define CTL_CONNECT_MS 5000L
#define CTL_CALL_MS 120000L
#define CTL_LINE_MAX (1U << 20)

/* A request, and what has come of its reply. */
struct call {
	CURL *curl;
	struct curl_slist *headers;
	char *path; /* of the socket */
	char *body; /* that is sent */
	char *text; /* that came, unless it goes elsewhere at once */
	size_t n, room;
	FILE *out;
	ctl_line_fn fn;
	void *data;
	bool enough; /* fn wants no more */
	int r;
};

static void call_done(struct call *c)
{
	curl_easy_cleanup(c->curl);
	curl_slist_free_all(c->headers);
	free(c->path);
	free(c->body);
	free(c->text);
}

static int call_socket(struct sockaddr_un *ret, struct err *err)
{
	int n;

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%s", wire_run_dir(), WIRE_SOCKET);
	if (n < 0 || (size_t)n >= sizeof(ret->sun_path))
		return err_set(err, -ENAMETOOLONG,
			       "the path '%s/%s' is too long for a socket: set WAGGLE_RUN_DIR to a shorter one",
			       wire_run_dir(), WIRE_SOCKET);
	return 0;
}

int ctl_pid(pid_t *ret, struct err *err)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;
	struct ucred peer = {};
	socklen_t len = sizeof(peer);
	int r = call_socket(&addr, err);

	if (r < 0)
		return r;
	if (fd < 0)
		return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR)
			return err_set(err, -ESRCH,
				       "no waggle is running: start one with 'waggle run' or 'waggle accel'");
		if (errno == EACCES || errno == EPERM)
			return err_set(err, -EACCES,
				       "not permitted to open '%s': run as root, or as a member of the group 'waggle'",
				       addr.sun_path);
		return err_set(err, -EIO, "cannot reach waggle at '%s': %s", addr.sun_path, strerror(errno));
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return err_set(err, -errno, "cannot tell who listens at '%s': %s", addr.sun_path, strerror(errno));
	*ret = peer.pid;
	return 0;
}

static int call_keep(struct call *c, const char *data, size_t n)
{
	if (c->n + n + 1 > c->room) {
		size_t room = c->room ? c->room : 16384;
		char *text;

		while (room < c->n + n + 1)
			room *= 2;
		text = realloc(c->text, room);
		if (!text)
			return -ENOMEM;
		c->text = text;
		c->room = room;
	}
	memcpy(c->text + c->n, data, n);
	c->n += n;
	c->text[c->n] = '\0';
	return 0;
}

/* Hands on the lines that are complete, and keeps the rest. */
static void call_lines(struct call *c)
{
	size_t start = 0;
	char *end;

	while (!c->enough && (end = memchr(c->text + start, '\n', c->n - start))) {
		size_t n = (size_t)(end - c->text) - start;

		*end = '\0';
		c->enough = n && c->fn(c->text + start, n, c->data);
		start += n + 1;
	}
	if (start && !c->enough)
		c->enough = c->fn(NULL, 0, c->data);
	memmove(c->text, c->text + start, c->n - start);
	c->n -= start;
	c->text[c->n] = '\0';
}

static size_t on_data(char *data, size_t size, size_t n, void *cls)
{
	struct call *c = cls;
	long status = 0;
	bool good;

	n *= size;
	(void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	good = status / 100 == 2;
	if (good && c->out) {
		c->r = fwrite(data, 1, n, c->out) == n ? 0 : -errno;
		return c->r < 0 ? 0 : n;
	}
	c->r = call_keep(c, data, n);
	if (c->r < 0)
		return 0;
	if (good && c->fn)
		call_lines(c);
	if (c->fn && c->n > CTL_LINE_MAX)
		c->r = -EPROTO;
	return c->r < 0 || c->enough ? 0 : n;
}

static int call_init(struct call *c, const char *path, json_t *body, struct err *err)
{
	struct sockaddr_un addr;
	_cleanup_free_ char *url = NULL;
	int r = call_socket(&addr, err);

	if (r < 0)
		return r;
	c->curl = curl_easy_init();
	c->path = strdup(addr.sun_path);
	c->body = body ? json_dumps(body, JSON_COMPACT) : NULL;
	c->headers = curl_slist_append(NULL, "Content-Type: application/json");
	if (!c->curl || !c->path || !c->headers || (body && !c->body) || asprintf(&url, "http://waggle%s", path) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	(void)curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->path);
	(void)curl_easy_setopt(c->curl, CURLOPT_URL, url);
	(void)curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(c->curl, CURLOPT_BUFFERSIZE, 262144L);
	(void)curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT_MS, CTL_CONNECT_MS);
	(void)curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_data);
	(void)curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
	if (c->body) {
		(void)curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, c->headers);
		(void)curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, c->body);
	}
	return 0;
}

/* The daemon's own sentence, for a reply that is not a good one. */
static int call_refused(const struct call *c, long status, struct err *err)
{
	json_t *root = json_loadb(c->text ? c->text : "", c->n, 0, NULL);
	const char *text = json_string_value(json_object_get(root, "error"));
	int r = text ? err_set(err, -EREMOTEIO, "%s", text) :
		       err_set(err, -EPROTO, "what listens at '%s' answered %ld: it is not a waggle of this version",
			       c->path, status);

	json_decref(root);
	return r;
}

static int call_result(struct call *c, CURLcode code, struct err *err)
{
	long status = 0;
	pid_t pid;
	int r;

	(void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	if (c->enough)
		return 0;
	if (c->r == -EPIPE)
		return err_set(err, c->r, "cannot write: nobody reads any more");
	if (c->r < 0)
		return err_set(err, c->r, "cannot take the reply: %s", strerror(-c->r));
	if (code == CURLE_COULDNT_CONNECT) {
		/* The library does not tell why; trying again does. */
		r = ctl_pid(&pid, err);
		return r < 0 ? r : err_set(err, -EIO, "cannot reach waggle at '%s': try again", c->path);
	}
	if (code != CURLE_OK)
		return err_set(err, -EIO, "waggle at '%s' did not answer to the end: %s", c->path,
			       curl_easy_strerror(code));
	return status / 100 == 2 ? 0 : call_refused(c, status, err);
}

int ctl_call_answer(const char *path, json_t *body, json_t **ret, struct err *err)
{
	_cleanup_(call_done) struct call c = {};
	json_t *root;
	int r = call_init(&c, path, body, err), done;

	if (r < 0)
		return r;
	(void)curl_easy_setopt(c.curl, CURLOPT_TIMEOUT_MS, CTL_CALL_MS);
	done = call_result(&c, curl_easy_perform(c.curl), err);
	if (done < 0 && done != -EREMOTEIO)
		return done;
	root = json_loadb(c.text ? c.text : "", c.n, 0, NULL);
	if (!json_is_object(root)) {
		json_decref(root);
		return err_set(err, -EPROTO,
			       "what listens at '%s' does not answer in JSON: it is not a waggle of this version",
			       c.path);
	}
	*ret = root;
	return done;
}

int ctl_call(const char *path, json_t *body, json_t **ret, struct err *err)
{
	json_t *root = NULL;
	int r = ctl_call_answer(path, body, &root, err);

	if (r < 0)
		json_decref(root);
	else
		*ret = root;
	return r;
}

char *ctl_escape(const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	char *escaped = malloc(3 * strlen(text) + 1), *p = escaped;

	if (!escaped)
		return NULL;
	for (; *text; text++) {
		if (strchr(plain, *text))
			*p++ = *text;
		else
			p += sprintf(p, "%%%02X", (unsigned int)(unsigned char)*text);
	}
	*p = '\0';
	return escaped;
}

char *ctl_backend_path(const char *service, const char *backend, const char *verb)
{
	_cleanup_free_ char *s = ctl_escape(service), *b = ctl_escape(backend);
	char *path;

	if (!s || !b || asprintf(&path, "/v1/services/%s/backends/%s/%s", s, b, verb) < 0)
		return NULL;
	return path;
}

int ctl_copy(const char *path, FILE *out, struct err *err)
{
	_cleanup_(call_done) struct call c = { .out = out };
	int r = call_init(&c, path, NULL, err);

	if (r < 0)
		return r;
	r = call_result(&c, curl_easy_perform(c.curl), err);
	if (r >= 0 && fflush(out))
		return err_set(err, -errno, "cannot write: %s", strerror(errno));
	return r;
}

static void multi_cleanup(CURLM **m)
{
	if (*m)
		(void)curl_multi_cleanup(*m);
}

/* Until the transfer ends, of which *ret_code tells how, or a signal comes (returns 1). */
static int lines_run(CURLM *multi, int signal_fd, CURLcode *ret_code)
{
	struct curl_waitfd wait = { .fd = signal_fd, .events = CURL_WAIT_POLLIN };
	int running = 1, queued;
	const CURLMsg *msg;

	while (curl_multi_perform(multi, &running) == CURLM_OK && running) {
		wait.revents = 0;
		if (curl_multi_poll(multi, &wait, 1, 1000, NULL) != CURLM_OK)
			return -EIO;
		if (wait.revents)
			return 1;
	}
	msg = curl_multi_info_read(multi, &queued);
	*ret_code = msg ? msg->data.result : CURLE_RECV_ERROR;
	return 0;
}

static int lines_run_call(struct call *c, int signal_fd, struct err *err)
{
	_cleanup_(multi_cleanup) CURLM *multi = curl_multi_init();
	CURLcode code = CURLE_OK;
	long status = 0;
	int r;

	if (!multi || curl_multi_add_handle(multi, c->curl) != CURLM_OK)
		return err_set(err, -ENOMEM, "out of memory");
	r = lines_run(multi, signal_fd, &code);
	(void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_multi_remove_handle(multi, c->curl);
	if (r < 0)
		return err_set(err, r, "cannot wait for events: %s", strerror(-r));
	/* A stream ends when the daemon does, however it does. */
	if (r > 0 || (status / 100 == 2 && c->r >= 0))
		return 0;
	return call_result(c, code, err);
}

int ctl_lines(const char *path, ctl_line_fn fn, void *data, struct err *err)
{
	_cleanup_(call_done) struct call c = { .fn = fn, .data = data };
	_cleanup_close_ int signal_fd = -1;
	sigset_t stop, was;
	int r = call_init(&c, path, NULL, err);

	if (r < 0)
		return r;
	(void)sigemptyset(&stop);
	(void)sigaddset(&stop, SIGINT);
	(void)sigaddset(&stop, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &stop, &was) < 0)
		return err_set(err, -errno, "cannot block signals: %s", strerror(errno));
	signal_fd = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd < 0) {
		r = err_set(err, -errno, "cannot watch signals: %s", strerror(errno));
	} else {
		struct signalfd_siginfo info;

		r = lines_run_call(&c, signal_fd, err);
		/* Taken, so that unblocking does not deliver what has been obeyed. */
		while (read(signal_fd, &info, sizeof(info)) > 0)
			;
	}
	(void)sigprocmask(SIG_SETMASK, &was, NULL);
	return r;
}
