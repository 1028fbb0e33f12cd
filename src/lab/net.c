// SPDX-License-Identifier: GPL-2.0-or-later
/* The lab's network: one bridge in a namespace of its own, one namespace a host, veth between; by ip(8). */
#include <errno.h>
#include <fcntl.h>

#include "lab/lab.h"
#include "lab/prog.h"
#include "sys/proc.h"

#define IP_MS 20000
#define NETNS_DIR "/run/netns"

/* Runs ip with the commands on stdin, within a namespace (NULL: ours). What it says on failure is in ip.log. */
static int ip_batch(const struct lab *lab, const char *netns, const char *commands, struct err *err)
{
	char log[128], last[256];
	const char *const here[] = { "ip", "-batch", "-", NULL };
	const char *const there[] = { "ip", "-netns", netns, "-batch", "-", NULL };
	struct prog_spec spec = {
		.argv = netns ? there : here,
		.netns_fd = -1,
		.cgroup_fd = -1,
		.log = log,
		.input = commands,
	};
	int r;

	(void)snprintf(log, sizeof(log), "%s/ip.log", lab->dir);
	r = prog_run(&spec, IP_MS, err);
	if (r == -EIO) {
		lab_last_line(lab, "ip.log", last, sizeof(last));
		return err_set(err, r, "cannot build the lab's network: ip says: %s", last);
	}
	return r;
}

/* Ours to set in a new namespace: /proc/sys/net shows the namespace of whoever opens it. */
static int set_sysctl(int netns_fd, const char *name, const char *value, struct err *err)
{
	_cleanup_close_ int fd = -1;
	char path[128];
	int was, r = 0;

	was = netns_enter(netns_fd);
	if (was < 0)
		return err_set(err, was, "cannot enter a namespace of the lab: %s", strerror(-was));
	(void)snprintf(path, sizeof(path), "/proc/sys/net/%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		r = -errno;
	netns_return(was);
	/* A kernel without IPv6 has no switch for it, and needs none. */
	if (r == -ENOENT && strncmp(name, "ipv6/", 5) == 0)
		return 0;
	return r < 0 ? err_set(err, r, "cannot set '%s' in the lab: %s", path, strerror(-r)) : 0;
}

static int open_netns(const struct lab *lab, const char *host, struct err *err)
{
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), NETNS_DIR "/%s-%s", lab->name, host);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno)) : fd;
}

static int create_host(struct lab *lab, size_t i, struct err *err)
{
	const struct lab_host *host = &lab->hosts[i];
	char netns[64], commands[256];
	int r;

	r = open_netns(lab, host->name, err);
	if (r < 0)
		return r;
	lab->netns_fd[i] = r;
	/* Quiet: no neighbour discovery in the captures. Many ports: a balancer without keepalive needs one a request. */
	r = set_sysctl(lab->netns_fd[i], "ipv6/conf/all/disable_ipv6", "1", err);
	if (r >= 0)
		r = set_sysctl(lab->netns_fd[i], "ipv4/ip_local_port_range", "1024 65535", err);
	if (r < 0)
		return r;
	(void)snprintf(netns, sizeof(netns), "%s-%s", lab->name, host->name);
	(void)snprintf(commands, sizeof(commands), "link set lo up\naddress add %s/24 dev eth0\nlink set eth0 up\n",
		       host->addr);
	return ip_batch(lab, netns, commands, err);
}

int lab_net_create(struct lab *lab, struct err *err)
{
	char names[1024] = "", links[2048] = "link add br0 type bridge\nlink set br0 up\n", bridge[64];
	int r;

	(void)snprintf(bridge, sizeof(bridge), "%s-net", lab->name);
	(void)snprintf(names, sizeof(names), "netns add %s\n", bridge);
	for (size_t i = 0; i < lab->n_hosts; i++) {
		const char *host = lab->hosts[i].name;
		size_t at_name = strlen(names), at_link = strlen(links);

		(void)snprintf(names + at_name, sizeof(names) - at_name, "netns add %s-%s\n", lab->name, host);
		(void)snprintf(links + at_link, sizeof(links) - at_link,
			       "link add %s type veth peer name eth0 netns %s-%s\nlink set %s master br0 up\n", host,
			       lab->name, host, host);
	}
	r = ip_batch(lab, NULL, names, err);
	if (r >= 0)
		r = ip_batch(lab, bridge, links, err);
	for (size_t i = 0; r >= 0 && i < lab->n_hosts; i++)
		r = create_host(lab, i, err);
	return r;
}

int lab_net_remove(const struct lab *lab, struct err *err)
{
	char commands[1024] = "", path[128];

	for (size_t i = 0; i <= lab->n_hosts; i++) {
		const char *host = i < lab->n_hosts ? lab->hosts[i].name : "net";
		size_t at = strlen(commands);

		(void)snprintf(path, sizeof(path), NETNS_DIR "/%s-%s", lab->name, host);
		if (access(path, F_OK) == 0)
			(void)snprintf(commands + at, sizeof(commands) - at, "netns del %s-%s\n", lab->name, host);
	}
	return *commands ? ip_batch(lab, NULL, commands, err) : 0;
}
