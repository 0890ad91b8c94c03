/*
 * A container on a bridge by hand: the datagrams and the writes to /proc/sys that an attach of `vethnet` makes, and no others.
 * The floor of `cargo xtask bench net`.
 *
 * floor BRIDGE GATEWAY      the bridge and the table of its name, with the map `published`, are there; so is ip_forward
 * floor BRIDGE GATEWAY DIR  writes a lease to DIR before each attach as durably as `vethnet` does, and removes it after
 *
 * Answers a line for each line read, in nanoseconds:
 *
 * attach I    an interface, an address, a default route and a published port for the namespace at /run/netns/cI
 * detach I    takes them away
 * list        reads all links
 * veth        makes a pair and removes it
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int home;
static const char *bridge, *state;
static uint32_t gateway;
static const char *step = "start";

/* Nothing here may fail: the comparison would not be one. */
static long ok(long value)
{
	if (value < 0) {
		fprintf(stderr, "floor: %s: %s\n", step, strerror(errno));
		_exit(125);
	}
	return value;
}

/* What is sent: one message, or a batch. */
static char out[8192], in[65536];
static size_t used, message, nests[8];
static unsigned depth, sequence;

static void put(const void *bytes, size_t size)
{
	memcpy(out + used, bytes, size);
	memset(out + used + size, 0, NLMSG_ALIGN(size) - size);
	used += NLMSG_ALIGN(size);
}

static void begin(const char *name, int type, int flags, const void *header, size_t size)
{
	struct nlmsghdr head = { 0, type, NLM_F_REQUEST | flags, ++sequence, 0 };

	step = name;
	message = used;
	put(&head, sizeof head);
	put(header, size);
}

static void end(void)
{
	((struct nlmsghdr *)(out + message))->nlmsg_len = used - message;
}

static void attr(int type, const void *data, size_t size)
{
	struct nlattr head = { NLA_HDRLEN + size, type };

	put(&head, sizeof head);
	put(data, size);
}

static void text(int type, const char *value)
{
	attr(type, value, strlen(value) + 1);
}

static void number(int type, uint32_t value)
{
	attr(type, &value, 4);
}

static void nest(int type)
{
	nests[depth++] = used;
	attr(type, NULL, 0);
}

static void close_nest(void)
{
	size_t at = nests[--depth];

	((struct nlattr *)(out + at))->nla_len = used - at;
}

static int open_socket(int family)
{
	int on = 1, fd;
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };

	step = "socket";
	fd = ok(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family));
	ok(bind(fd, (struct sockaddr *)&address, sizeof address));
	ok(setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on));
	ok(setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on));
	ok(setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on));
	return fd;
}

/* The number of the other end of the last link told of. */
static int peer;

static void look_for_peer(struct nlmsghdr *head)
{
	struct rtattr *attribute = IFLA_RTA((struct ifinfomsg *)NLMSG_DATA(head));
	int length = IFLA_PAYLOAD(head);

	for (; RTA_OK(attribute, length); attribute = RTA_NEXT(attribute, length))
		if (attribute->rta_type == IFLA_LINK)
			memcpy(&peer, RTA_DATA(attribute), 4);
}

/* Sends what was put, and reads until the acknowledgement or the end of the dump. The index of the last link told of. */
static int talk(int fd)
{
	int index = 0;

	ok(send(fd, out, used, 0));
	used = 0;
	for (;;) {
		int length = ok(recv(fd, in, sizeof in, 0));
		struct nlmsghdr *head;

		for (head = (void *)in; NLMSG_OK(head, length); head = NLMSG_NEXT(head, length)) {
			if (head->nlmsg_type == NLMSG_ERROR) {
				errno = -((struct nlmsgerr *)NLMSG_DATA(head))->error;
				ok(errno ? -1 : 0);
				return index;
			}
			if (head->nlmsg_type == NLMSG_DONE)
				return index;
			if (head->nlmsg_type == RTM_NEWLINK) {
				index = ((struct ifinfomsg *)NLMSG_DATA(head))->ifi_index;
				look_for_peer(head);
			}
		}
	}
}

static void begin_link(const char *name, int type, int flags, struct ifinfomsg link, const char *ifname)
{
	begin(name, type, flags, &link, sizeof link);
	if (ifname)
		text(IFLA_IFNAME, ifname);
}

/* Sends a question for a link, behind what was put before. */
static int index_of(int fd, const char *ifname)
{
	begin_link("RTM_GETLINK", RTM_GETLINK, NLM_F_ACK, (struct ifinfomsg){ 0 }, ifname);
	end();
	return talk(fd);
}

static void up(int index, int flags)
{
	begin_link("RTM_SETLINK up", RTM_SETLINK, flags,
		   (struct ifinfomsg){ .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP }, NULL);
	end();
}

static void ask(int index, int flags)
{
	begin_link("RTM_GETLINK", RTM_GETLINK, flags, (struct ifinfomsg){ .ifi_index = index }, NULL);
	end();
}

static void sysctl(const char *file, const char *link, const char *value)
{
	char path[128];
	int fd;

	snprintf(path, sizeof path, "/proc/sys/net/%s/%s", link, file);
	step = path;
	fd = ok(open(path, O_WRONLY | O_CLOEXEC));
	ok(write(fd, value, 1));
	close(fd);
	step = "sysctl";
}

static int is_on(const char *path)
{
	char value;
	int fd;

	step = path;
	fd = ok(open(path, O_RDONLY | O_CLOEXEC));
	ok(read(fd, &value, 1));
	close(fd);
	return value == '1';
}

static void mac_of(unsigned char *mac, int end, int number)
{
	unsigned char bytes[6] = { 2, 0xf1, end, 0, number >> 8, number };

	memcpy(mac, bytes, 6);
}

/* An element of the map: tcp . port : address . 80. */
static void element(int fd, int type, int flags, int number, uint32_t address)
{
	struct nfgenmsg header = { AF_INET, 0, 0 }, subsystem = { 0, 0, htons(NFNL_SUBSYS_NFTABLES) };
	unsigned short port = htons(20000 + number), target = htons(80);
	unsigned char key[8] = { IPPROTO_TCP }, data[8] = { 0 };

	memcpy(key + 4, &port, 2);
	memcpy(data, &address, 4);
	memcpy(data + 4, &target, 2);
	begin("NFNL_MSG_BATCH_BEGIN", NFNL_MSG_BATCH_BEGIN, 0, &subsystem, sizeof subsystem);
	end();
	begin("an element", NFNL_SUBSYS_NFTABLES << 8 | type, flags | NLM_F_ACK, &header, sizeof header);
	text(NFTA_SET_ELEM_LIST_TABLE, bridge);
	text(NFTA_SET_ELEM_LIST_SET, "published");
	nest(NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED);
	nest(NFTA_LIST_ELEM | NLA_F_NESTED);
	nest(NFTA_SET_ELEM_KEY | NLA_F_NESTED);
	attr(NFTA_DATA_VALUE, key, sizeof key);
	close_nest();
	if (address) {
		nest(NFTA_SET_ELEM_DATA | NLA_F_NESTED);
		attr(NFTA_DATA_VALUE, data, sizeof data);
		close_nest();
	}
	close_nest();
	close_nest();
	end();
	begin("an element", NFNL_MSG_BATCH_END, 0, &subsystem, sizeof subsystem);
	end();
	talk(fd);
}

static void lease(int number, uint32_t address)
{
	char path[512], temporary[512], line[128];
	int dir, fd, length;

	if (!state)
		return;
	snprintf(path, sizeof path, "%s/c%d.json", state, number);
	snprintf(temporary, sizeof temporary, "%s/.c%d.tmp", state, number);
	step = path;
	dir = ok(open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	ok(flock(dir, LOCK_EX));
	if (address) {
		length = snprintf(line, sizeof line, "{\"owner\":\"c%d\",\"address\":%u}\n", number, address);
		fd = ok(open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
		ok(write(fd, line, length));
		ok(fsync(fd));
		close(fd);
		ok(rename(temporary, path));
		ok(fsync(dir));
	} else {
		ok(unlink(path));
	}
	close(dir);
}

static void attach(int number_)
{
	int route = open_socket(NETLINK_ROUTE), netfilter = open_socket(NETLINK_NETFILTER), inside;
	int netns, master, index;
	uint32_t address = htonl(ntohl(gateway) + 1 + number_);
	unsigned char mac[6];
	char name[IF_NAMESIZE], conf[64];
	struct nfgenmsg table = { AF_INET, 0, 0 };
	struct ifaddrmsg address_header = { AF_INET, 16, 0, RT_SCOPE_UNIVERSE, 0 };
	struct rtmsg route_header = { AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0 };

	snprintf(conf, sizeof conf, "/run/netns/c%d", number_);
	step = "a namespace";
	netns = ok(open(conf, O_RDONLY | O_CLOEXEC));
	snprintf(name, sizeof name, "vc%d", number_);
	master = index_of(route, bridge);
	begin("NFT_MSG_GETTABLE", NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_ACK, &table, sizeof table);
	text(NFTA_TABLE_NAME, bridge);
	end();
	talk(netfilter);
	ok(is_on("/proc/sys/net/ipv4/ip_forward") ? 0 : -1);
	lease(number_, address);

	begin_link("RTM_NEWLINK", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, (struct ifinfomsg){ 0 }, name);
	mac_of(mac, 0, number_);
	attr(IFLA_ADDRESS, mac, 6);
	number(IFLA_MTU, 1500);
	number(IFLA_MASTER, master);
	nest(IFLA_LINKINFO);
	text(IFLA_INFO_KIND, "veth");
	nest(IFLA_INFO_DATA);
	nest(VETH_INFO_PEER);
	put(&(struct ifinfomsg){ 0 }, sizeof(struct ifinfomsg));
	text(IFLA_IFNAME, "eth0");
	mac_of(mac, 1, number_);
	attr(IFLA_ADDRESS, mac, 6);
	number(IFLA_MTU, 1500);
	number(IFLA_NET_NS_FD, netns);
	close_nest();
	close_nest();
	close_nest();
	end();
	index = index_of(route, name);
	snprintf(conf, sizeof conf, "ipv6/conf/%s", name);
	sysctl("accept_ra", conf, "0");
	sysctl("autoconf", conf, "0");

	begin_link("RTM_SETLINK", RTM_SETLINK, 0, (struct ifinfomsg){ .ifi_index = index }, NULL);
	text(IFLA_IFALIAS, name);
	nest(IFLA_AF_SPEC);
	nest(AF_INET6);
	attr(IFLA_INET6_ADDR_GEN_MODE, &(unsigned char){ IN6_ADDR_GEN_MODE_NONE }, 1);
	close_nest();
	close_nest();
	end();
	begin_link("RTM_NEWLINK port", RTM_NEWLINK, 0, (struct ifinfomsg){ .ifi_index = index }, NULL);
	nest(IFLA_LINKINFO);
	text(IFLA_INFO_SLAVE_KIND, "bridge");
	nest(IFLA_INFO_SLAVE_DATA);
	attr(IFLA_BRPORT_MODE, &(unsigned char){ 1 }, 1);
	close_nest();
	close_nest();
	end();
	up(index, NLM_F_ACK);
	talk(route);

	step = "setns";
	ok(setns(netns, CLONE_NEWNET));
	inside = open_socket(NETLINK_ROUTE);
	sysctl("accept_ra", "ipv6/conf/eth0", "0");
	sysctl("autoconf", "ipv6/conf/eth0", "0");
	sysctl("rp_filter", "ipv4/conf/eth0", "2");
	up(1, 0);
	address_header.ifa_index = peer;
	begin("RTM_NEWADDR", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &address_header, sizeof address_header);
	attr(IFA_LOCAL, &address, 4);
	attr(IFA_ADDRESS, &address, 4);
	end();
	begin_link("RTM_SETLINK", RTM_SETLINK, 0, (struct ifinfomsg){ .ifi_index = peer }, NULL);
	nest(IFLA_AF_SPEC);
	nest(AF_INET6);
	attr(IFLA_INET6_ADDR_GEN_MODE, &(unsigned char){ IN6_ADDR_GEN_MODE_NONE }, 1);
	close_nest();
	close_nest();
	end();
	up(peer, 0);
	begin("RTM_NEWROUTE", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route_header, sizeof route_header);
	attr(RTA_GATEWAY, &gateway, 4);
	number(RTA_OIF, peer);
	end();
	/* To be told of a link, the kernel first does what it put off for it: after this, packets pass. */
	ask(peer, NLM_F_ACK);
	talk(inside);
	ask(index, 0);
	ask(master, NLM_F_ACK);
	talk(route);
	step = "setns";
	ok(setns(home, CLONE_NEWNET));
	element(netfilter, NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, number_, address);
	close(inside);
	close(netns);
	close(netfilter);
	close(route);
}

static void detach(int number_)
{
	int route = open_socket(NETLINK_ROUTE), netfilter = open_socket(NETLINK_NETFILTER), index;
	char name[IF_NAMESIZE];

	snprintf(name, sizeof name, "vc%d", number_);
	element(netfilter, NFT_MSG_DELSETELEM, 0, number_, 0);
	index = index_of(route, name);
	begin_link("RTM_DELLINK", RTM_DELLINK, NLM_F_ACK, (struct ifinfomsg){ .ifi_index = index }, NULL);
	end();
	talk(route);
	lease(number_, 0);
	close(netfilter);
	close(route);
}

static void list(void)
{
	int route = open_socket(NETLINK_ROUTE);

	begin_link("RTM_GETLINK", RTM_GETLINK, NLM_F_DUMP, (struct ifinfomsg){ 0 }, NULL);
	end();
	talk(route);
	close(route);
}

static void veth(void)
{
	int route = open_socket(NETLINK_ROUTE), index;

	begin_link("RTM_NEWLINK", RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, (struct ifinfomsg){ 0 }, "floor0");
	nest(IFLA_LINKINFO);
	text(IFLA_INFO_KIND, "veth");
	nest(IFLA_INFO_DATA);
	nest(VETH_INFO_PEER);
	put(&(struct ifinfomsg){ 0 }, sizeof(struct ifinfomsg));
	text(IFLA_IFNAME, "floor1");
	close_nest();
	close_nest();
	close_nest();
	end();
	talk(route);
	index = index_of(route, "floor0");
	begin_link("RTM_DELLINK", RTM_DELLINK, NLM_F_ACK, (struct ifinfomsg){ .ifi_index = index }, NULL);
	end();
	talk(route);
	close(route);
}

int main(int argc, char **argv)
{
	char line[64], verb[16];

	if (argc < 3)
		return 2;
	bridge = argv[1];
	gateway = inet_addr(argv[2]);
	state = argv[3];
	home = ok(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
	while (fgets(line, sizeof line, stdin)) {
		struct timespec begun, ended;
		int which = 0;

		if (sscanf(line, "%15s %d", verb, &which) < 1 || which < 0)
			return 2;
		clock_gettime(CLOCK_MONOTONIC, &begun);
		if (!strcmp(verb, "attach"))
			attach(which);
		else if (!strcmp(verb, "detach"))
			detach(which);
		else if (!strcmp(verb, "list"))
			list();
		else if (!strcmp(verb, "veth"))
			veth();
		else
			return 2;
		clock_gettime(CLOCK_MONOTONIC, &ended);
		printf("%lld\n", (ended.tv_sec - begun.tv_sec) * 1000000000LL + (ended.tv_nsec - begun.tv_nsec));
		fflush(stdout);
	}
	return 0;
}
