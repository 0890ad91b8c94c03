/*
 * A container root by hand: the system calls that an `Overlay` and a `Rootfs` with proc, sys, dev and mask_defaults make, and no
 * others. The floor of `cargo xtask bench mount`.
 *
 * floor WRITES LAYER...     what containers write goes below the first; the lower directories, the topmost first. /true of the
 *                           root is run
 *
 * Answers a line for each line read: "start": the nanoseconds of one start; "many N": those of N starts at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RDONLY 1
#define NOSUID 2
#define NODEV 4
#define NOEXEC 8
#define INERT (NOSUID | NODEV | NOEXEC)
#define CLONE 1
#define RECURSIVE 0x8000
#define IN_ROOT 0x12 /* and RESOLVE_NO_MAGICLINKS */
#define NO_LINKS 0x16

struct attr {
	uint64_t set, clear, propagation, userns;
};
struct how {
	uint64_t flags, mode, resolve;
};

static char **layers, *writes;
static int number;
static const char *step = "clone";

/* Nothing here may fail: the comparison would not be one. */
static long ok(long value)
{
	if (value < 0) {
		fprintf(stderr, "floor: %s: %s\n", step, strerror(errno));
		_exit(125);
	}
	return value;
}

static void set(int fs, const char *key, const char *value)
{
	step = key;
	ok(syscall(SYS_fsconfig, fs, 1, key, value, 0));
}

static int open_fs(const char *type)
{
	step = type;
	return ok(syscall(SYS_fsopen, type, 1));
}

static int made(int fs, unsigned attributes)
{
	step = "create";
	ok(syscall(SYS_fsconfig, fs, 6, NULL, NULL, 0));
	step = "fsmount";
	return ok(syscall(SYS_fsmount, fs, 1, attributes));
}

static void put(int mount, int dir, const char *path)
{
	step = "move_mount";
	ok(syscall(SYS_move_mount, mount, "", dir, path, *path ? 4 : 0x44));
}

static int tree(int dir, const char *path, unsigned flags)
{
	step = path;
	return ok(syscall(SYS_open_tree, dir, path, flags | CLONE | O_CLOEXEC));
}

static void attributes(int fd, unsigned flags, uint64_t set, uint64_t propagation)
{
	struct attr attr = { set, 0, propagation, 0 };

	step = "mount_setattr";
	ok(syscall(SYS_mount_setattr, fd, fd == AT_FDCWD ? "/" : "", flags, &attr, sizeof attr));
}

static int look(int root, const char *path, int flags, uint64_t resolve)
{
	struct how how = { O_PATH | O_CLOEXEC | flags, 0, resolve };

	return syscall(SYS_openat2, root, path, &how, sizeof how);
}

static struct statx stat_of(int fd)
{
	struct statx stat;

	step = "statx";
	ok(syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &stat));
	return stat;
}

static int place(int root, const char *name)
{
	int fd = look(root, name, O_DIRECTORY, NO_LINKS);

	step = name;
	if (fd < 0) {
		ok(mkdirat(root, name, 0755));
		fd = ok(look(root, name, O_DIRECTORY, NO_LINKS));
	}
	return fd;
}

static void device(int dev, const char *path, unsigned minor)
{
	int fd = tree(AT_FDCWD, path, 0);
	struct statx stat = stat_of(fd);

	step = path;
	ok(stat.stx_rdev_minor == minor ? 0 : -1);
	attributes(fd, AT_EMPTY_PATH, RDONLY | NOSUID | NOEXEC, 0);
	ok(mknodat(dev, path + 5, S_IFREG | 0666, 0));
	put(fd, dev, path + 5);
}

static const char *masked[] = { "proc/acpi", "proc/asound", "proc/interrupts", "proc/kcore", "proc/keys",
	"proc/latency_stats", "proc/sched_debug", "proc/scsi", "proc/timer_list", "proc/timer_stats",
	"sys/devices/virtual/powercap", "sys/firmware" };
static const char *read_only[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };

/* What is there now is what was put there: looked up anew. */
static void verify(int root, const char *path)
{
	struct statfs fs;
	int fd;

	step = path;
	fd = ok(look(root, path, 0, IN_ROOT));
	stat_of(fd);
	ok(fstatfs(fd, &fs));
	close(fd);
}

static void mask(int root, int masks, const char *path)
{
	int clone, fd = look(root, path, 0, IN_ROOT);

	if (fd < 0)
		return;
	clone = tree(masks, S_ISDIR(stat_of(fd).stx_mode) ? "dir" : "file", 0);
	put(clone, fd, "");
	close(clone);
	close(fd);
	verify(root, path);
}

static void protect(int root, const char *path)
{
	int clone, fd = look(root, path, 0, IN_ROOT);

	if (fd < 0)
		return;
	clone = tree(fd, "", AT_EMPTY_PATH | RECURSIVE);
	attributes(clone, AT_EMPTY_PATH | RECURSIVE, RDONLY, 0);
	put(clone, fd, "");
	close(clone);
	close(fd);
	verify(root, path);
}

static void enter(void)
{
	int fs, scratch, root, dev, mount, masks;
	char upper[512], work[512];
	unsigned i;

	attributes(AT_FDCWD, RECURSIVE, 0, MS_PRIVATE);
	fs = open_fs("tmpfs");
	set(fs, "mode", "0755");
	scratch = made(fs, NOSUID | NODEV);
	put(scratch, AT_FDCWD, "/");
	ok(fchdir(scratch));
	snprintf(upper, sizeof upper, "%s/c-upper%d", writes, number);
	snprintf(work, sizeof work, "%s/c-work%d", writes, number);
	ok(mkdir(upper, 0755));
	ok(mkdir(work, 0700));
	fs = open_fs("overlay");
	for (i = 0; layers[i]; i++)
		set(fs, "lowerdir+", layers[i]);
	set(fs, "upperdir", upper);
	set(fs, "workdir", work);
	set(fs, "index", "off");
	set(fs, "redirect_dir", "nofollow");
	set(fs, "metacopy", "off");
	root = made(fs, NODEV);
	put(root, AT_FDCWD, "/");

	mount = made(open_fs("proc"), INERT);
	put(mount, place(root, "proc"), "");
	mount = made(open_fs("sysfs"), INERT | RDONLY);
	put(mount, place(root, "sys"), "");
	fs = open_fs("tmpfs");
	set(fs, "size", "65536");
	set(fs, "mode", "0755");
	dev = made(fs, INERT);
	put(dev, place(root, "dev"), "");
	device(dev, "/dev/null", 3);
	device(dev, "/dev/zero", 5);
	device(dev, "/dev/full", 7);
	device(dev, "/dev/random", 8);
	device(dev, "/dev/urandom", 9);
	device(dev, "/dev/tty", 0);
	ok(symlinkat("pts/ptmx", dev, "ptmx"));
	ok(symlinkat("/proc/self/fd", dev, "fd"));
	ok(symlinkat("/proc/self/fd/0", dev, "stdin"));
	ok(symlinkat("/proc/self/fd/1", dev, "stdout"));
	ok(symlinkat("/proc/self/fd/2", dev, "stderr"));
	fs = open_fs("devpts");
	set(fs, "ptmxmode", "0666");
	set(fs, "mode", "0620");
	set(fs, "gid", "5");
	mount = made(fs, NOSUID | NOEXEC);
	ok(mkdirat(dev, "pts", 0755));
	put(mount, dev, "pts");
	fs = open_fs("tmpfs");
	set(fs, "size", "67108864");
	set(fs, "mode", "1777");
	mount = made(fs, INERT);
	ok(mkdirat(dev, "shm", 0755));
	put(mount, dev, "shm");
	mount = made(open_fs("mqueue"), INERT);
	ok(mkdirat(dev, "mqueue", 0755));
	put(mount, dev, "mqueue");

	ok(mkdirat(scratch, "masks", 0755));
	ok(mkdirat(scratch, "masks/dir", 0555));
	ok(mknodat(scratch, "masks/file", S_IFREG | 0444, 0));
	masks = tree(scratch, "masks", 0);
	attributes(masks, AT_EMPTY_PATH, INERT | RDONLY, 0);
	put(masks, scratch, "masks");
	for (i = 0; i < sizeof masked / sizeof *masked; i++)
		mask(root, masks, masked[i]);
	for (i = 0; i < sizeof read_only / sizeof *read_only; i++)
		protect(root, read_only[i]);

	put(scratch, AT_FDCWD, layers[0]);
	step = "pivot_root";
	ok(fchdir(root));
	ok(syscall(SYS_pivot_root, ".", "."));
	ok(umount2(".", MNT_DETACH));
	ok(chdir("/"));
}

static pid_t start(void)
{
	unsigned long flags =
		CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWCGROUP | SIGCHLD;
	/* Without a stack and without CLONE_VM it is fork(2). */
	pid_t pid;

	number++;
	pid = ok(syscall(SYS_clone, flags, NULL, NULL, NULL, NULL));

	if (pid == 0) {
		umask(0);
		enter();
		step = "execv";
		umask(022);
		ok(execv("/true", (char *[]){ "true", NULL }));
	}
	return pid;
}

static void finish(pid_t pid)
{
	int status;

	step = "waitpid";
	ok(waitpid(pid, &status, 0));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		exit(125);
}

int main(int argc, char **argv)
{
	char line[64];

	if (argc < 3)
		return 2;
	writes = argv[1];
	layers = argv + 2;
	while (fgets(line, sizeof line, stdin)) {
		struct timespec begun, ended;
		int i, count = 1;
		pid_t pids[64];

		sscanf(line, "many %d", &count);
		if (count < 1 || count > 64)
			return 2;
		clock_gettime(CLOCK_MONOTONIC, &begun);
		for (i = 0; i < count; i++)
			pids[i] = start();
		for (i = 0; i < count; i++)
			finish(pids[i]);
		clock_gettime(CLOCK_MONOTONIC, &ended);
		printf("%lld\n", (ended.tv_sec - begun.tv_sec) * 1000000000LL + (ended.tv_nsec - begun.tv_nsec));
		fflush(stdout);
	}
	return 0;
}
