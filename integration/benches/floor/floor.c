/*
 * The kernel floor: makes exactly the kernel calls of one Plan, in the order in which a container needs them, and
 * nothing else: no specification to parse, no state to keep, no supervisor, no check. What a runtime takes beyond
 * this is its own doing.
 *
 *     floor SCRIPT    one call a line, words separated by tabs (see benches/floor/script.rs, which writes it)
 *
 *     parent ─ control groups made, limits written ─ clone ─► worker ─ joins them ─ clone(namespaces) ─► init
 *        ▲                                                                                                 │
 *        └─ waits, removes the control groups ◄─ exit ◄─ execve ◄─ confined ◄─ ids ◄─ pivot_root ◄─ mounts ┘
 *
 * Every call that fails ends it with a message: a floor that left something out would be a lie.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

/* Flags of the old mount(2), which linux/mount.h gives too: sys/mount.h would clash with it in older libcs. */
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#define DETACH 2

enum { WORDS_MAX = 64, LINES_MAX = 1024, PROGRAMS_MAX = 8 };

struct line {
    int count;
    char *word[WORDS_MAX];
};

static struct line lines[LINES_MAX];
static int line_count;
static struct sock_fprog programs[PROGRAMS_MAX];
static int ruleset = -1;

static void fail(const struct line *line, const char *call) {
    dprintf(2, "floor: %s: %s:", call, strerror(errno));
    for (int i = 0; line && i < line->count; i++)
        dprintf(2, " %s", line->word[i]);
    dprintf(2, "\n");
    _exit(1);
}

static long check(long result, const struct line *line, const char *call) {
    if (result < 0)
        fail(line, call);
    return result;
}

static char *contents(const char *path, size_t *size) {
    int fd = (int)check(open(path, O_RDONLY | O_CLOEXEC), NULL, path);
    struct stat about;
    check(fstat(fd, &about), NULL, "fstat");
    char *text = malloc((size_t)about.st_size + 1);
    if (!text || read(fd, text, (size_t)about.st_size) != about.st_size)
        fail(NULL, "read of script");
    text[about.st_size] = 0;
    *size = (size_t)about.st_size;
    close(fd);
    return text;
}

static void parse(const char *path) {
    size_t size;
    for (char *rest = contents(path, &size), *text; (text = strsep(&rest, "\n"));) {
        if (!*text)
            continue;
        if (line_count == LINES_MAX)
            fail(NULL, "too many lines");
        struct line *line = &lines[line_count++];
        while (text) {
            if (line->count == WORDS_MAX - 1)
                fail(line, "too many words");
            line->word[line->count++] = strsep(&text, "\t");
        }
        /* Read while it can be reached: it is loaded behind pivot_root. */
        if (!strcmp(line->word[0], "seccomp")) {
            struct sock_fprog *program = &programs[atoi(line->word[1])];
            program->filter = (struct sock_filter *)contents(line->word[2], &size);
            program->len = (unsigned short)(size / sizeof(struct sock_filter));
        }
    }
}

static void write_text(const struct line *line, const char *path, const char *text) {
    int fd = (int)check(open(path, O_WRONLY | O_CLOEXEC), line, "open");
    check(write(fd, text, strlen(text)), line, "write");
    close(fd);
}

/* A detached copy of a mount, with attributes; what is not there is skipped, as a runtime skips it. */
static int tree(const struct line *line, const char *path, unsigned long attributes) {
    int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (fd < 0 && errno == ENOENT)
        return -1;
    check(fd, line, "open_tree");
    struct mount_attr set = {.attr_set = attributes};
    check(syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &set, sizeof set), line, "mount_setattr");
    return fd;
}

static void move_to(const struct line *line, int fd, const char *path) {
    check(syscall(SYS_move_mount, fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH), line, "move_mount");
    close(fd);
}

static void mask(const struct line *line) {
    struct stat about;
    if (stat(line->word[1], &about))
        return;
    if (S_ISDIR(about.st_mode))
        check(mount("tmpfs", line->word[1], "tmpfs", MS_RDONLY, NULL), line, "mount");
    else
        move_to(line, tree(line, "/dev/null", 0), line->word[1]);
}

static void read_only(const struct line *line) {
    int fd = tree(line, line->word[1], MOUNT_ATTR_RDONLY);
    if (fd >= 0)
        move_to(line, fd, line->word[1]);
}

static void loopback(const struct line *line) {
    int fd = (int)check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), line, "socket");
    struct ifreq request = {.ifr_name = "lo"};
    check(ioctl(fd, SIOCGIFFLAGS, &request), line, "ioctl");
    request.ifr_flags |= IFF_UP;
    check(ioctl(fd, SIOCSIFFLAGS, &request), line, "ioctl");
    close(fd);
}

static void pivot(const struct line *line) {
    check(chdir(line->word[1]), line, "chdir");
    check(syscall(SYS_pivot_root, ".", "."), line, "pivot_root");
    check(umount2(".", DETACH), line, "umount2");
    check(chdir("/"), line, "chdir");
}

static void drop_bounding(const struct line *line) {
    int last = atoi(line->word[1]);
    for (int capability = 0; capability <= last; capability++)
        check(prctl(PR_CAPBSET_DROP, capability), line, "prctl PR_CAPBSET_DROP");
}

static void drop_capabilities(const struct line *line) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), line, "prctl PR_CAP_AMBIENT");
    check(syscall(SYS_capset, &header, none), line, "capset");
}

static void groups(const struct line *line) {
    gid_t ids[WORDS_MAX];
    for (int i = 1; i < line->count; i++)
        ids[i - 1] = (gid_t)strtoul(line->word[i], NULL, 10);
    check(setgroups((size_t)line->count - 1, ids), line, "setgroups");
}

/* Landlock by its own structures: the libc's headers may be older than the kernel. */
static void make_ruleset(const struct line *line) {
    unsigned long long handled[3] = {strtoull(line->word[1], NULL, 0), strtoull(line->word[2], NULL, 0), 0};
    /* Its first word is in every ABI, the second from 4 on. */
    size_t size = handled[1] ? 16 : 8;
    ruleset = (int)check(syscall(SYS_landlock_create_ruleset, handled, size, 0), line, "landlock_create_ruleset");
}

static void rule(const struct line *line) {
    struct {
        unsigned long long access;
        int parent;
    } __attribute__((packed)) beneath = {strtoull(line->word[1], NULL, 0), -1};
    beneath.parent = open(line->word[2], O_PATH | O_CLOEXEC);
    if (beneath.parent < 0 && (errno == ENOENT || errno == EACCES))
        return;
    check(beneath.parent, line, "open");
    check(syscall(SYS_landlock_add_rule, ruleset, 1, &beneath, 0), line, "landlock_add_rule");
    close(beneath.parent);
}

static void limit(const struct line *line) {
    struct rlimit value = {strtoull(line->word[2], NULL, 10), strtoull(line->word[3], NULL, 10)};
    check(setrlimit((unsigned)atoi(line->word[1]), &value), line, "setrlimit");
}

/* Calls of init and parent alike, one a line. */
static void step(const struct line *line) {
    char *const *w = line->word;
    const char *name = w[0];
#define IS(text) (!strcmp(name, text))
    if (IS("mkdir")) {
        if (mkdir(w[1], (mode_t)strtoul(w[2], NULL, 8)) && errno != EEXIST)
            fail(line, "mkdir");
    } else if (IS("rmdir")) check(rmdir(w[1]), line, "rmdir");
    else if (IS("write")) write_text(line, w[1], w[2]);
    else if (IS("propagation")) check(mount(NULL, "/", NULL, strtoul(w[1], NULL, 0), NULL), line, "mount");
    else if (IS("mount"))
        check(mount(w[1], w[2], w[3], strtoul(w[4], NULL, 0), line->count > 5 ? w[5] : NULL), line, "mount");
    else if (IS("bind")) move_to(line, tree(line, w[1], strtoul(w[3], NULL, 0)), w[2]);
    else if (IS("file")) close((int)check(open(w[1], O_CREAT | O_WRONLY | O_CLOEXEC, 0644), line, "open"));
    else if (IS("mknod"))
        check(mknod(w[1], (mode_t)strtoul(w[2], NULL, 8), makedev(atoi(w[3]), atoi(w[4]))), line, "mknod");
    else if (IS("symlink")) check(symlink(w[1], w[2]), line, "symlink");
    else if (IS("pivot")) pivot(line);
    else if (IS("mask")) mask(line);
    else if (IS("read-only")) read_only(line);
    else if (IS("attributes")) {
        struct mount_attr set = {.attr_set = strtoull(w[2], NULL, 0)};
        check(syscall(SYS_mount_setattr, AT_FDCWD, w[1], 0, &set, sizeof set), line, "mount_setattr");
    } else if (IS("hostname")) check(sethostname(w[1], strlen(w[1])), line, "sethostname");
    else if (IS("loopback")) loopback(line);
    else if (IS("chdir")) check(chdir(w[1]), line, "chdir");
    else if (IS("umask")) umask((mode_t)strtoul(w[1], NULL, 8));
    else if (IS("rlimit")) limit(line);
    else if (IS("groups")) groups(line);
    else if (IS("gid")) check(setresgid((gid_t)atoi(w[1]), (gid_t)atoi(w[1]), (gid_t)atoi(w[1])), line, "setresgid");
    else if (IS("uid")) check(setresuid((uid_t)atoi(w[1]), (uid_t)atoi(w[1]), (uid_t)atoi(w[1])), line, "setresuid");
    else if (IS("bounding")) drop_bounding(line);
    else if (IS("capabilities")) drop_capabilities(line);
    else if (IS("no_new_privs")) check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), line, "prctl PR_SET_NO_NEW_PRIVS");
    else if (IS("ruleset")) make_ruleset(line);
    else if (IS("rule")) rule(line);
    else if (IS("restrict")) check(syscall(SYS_landlock_restrict_self, ruleset, 0), line, "landlock_restrict_self");
    else if (IS("seccomp"))
        check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &programs[atoi(w[1])]), line, "seccomp");
    else if (IS("execve")) {
        char *environment[] = {"PATH=/bin:/sbin:/usr/bin", NULL};
        execve(w[1], (char *const *)w + 1, environment);
        fail(line, "execve");
    } else {
        errno = ENOSYS;
        fail(line, "unknown call");
    }
#undef IS
}

static void wait_for(pid_t pid) {
    int status;
    check(waitpid(pid, &status, __WALL), NULL, "waitpid");
    if (status)
        _exit(1);
}

/* worker [GROUP]: on version 2 it is born in its control group, which spares the wait of a move. */
static pid_t start_worker(const struct line *line) {
    struct clone_args arguments = {.exit_signal = SIGCHLD};
    if (line->count > 1) {
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.cgroup = (unsigned long long)check(open(line->word[1], O_RDONLY | O_CLOEXEC), line, "open");
    }
    return (pid_t)check(syscall(SYS_clone3, &arguments, sizeof arguments), line, "clone3");
}

int main(int count, char **arguments) {
    if (count != 2) {
        dprintf(2, "usage: floor SCRIPT\n");
        return 2;
    }
    parse(arguments[1]);
    int at = 0;
    for (; at < line_count && strcmp(lines[at].word[0], "worker"); at++)
        step(&lines[at]);
    pid_t worker = start_worker(&lines[at]);
    if (worker == 0) {
        for (at++; strcmp(lines[at].word[0], "init"); at++)
            step(&lines[at]);
        unsigned long flags = strtoul(lines[at].word[1], NULL, 0) | CLONE_PARENT | SIGCHLD;
        if (check(syscall(SYS_clone, flags, NULL, NULL, NULL, NULL), &lines[at], "clone"))
            _exit(0);
        for (at++; at < line_count; at++)
            step(&lines[at]);
        _exit(1);
    }
    wait_for(worker);
    wait_for(-1);
    for (; at < line_count && strcmp(lines[at].word[0], "after"); at++)
        ;
    for (at++; at < line_count; at++)
        step(&lines[at]);
    return 0;
}
