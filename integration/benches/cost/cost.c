/* What a system call costs inside a container, of a program whose own calls can be told: the probe makes any that it is
 * told, so that no profile of it is narrower than the baseline. The least of 15 batches of some 5 ms, in nanoseconds. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define BATCHES 15
#define BATCH_NS 5e6

static double now_ns(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1e9 + at.tv_nsec;
}

static int of_getppid(const char *path)
{
	(void)path;
	return getppid() < 0;
}

static int of_open_close(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 || close(fd);
}

static double batch(int (*one)(const char *), const char *path, long calls)
{
	double began = now_ns();
	for (long n = 0; n < calls; n++)
		if (one(path))
			return -1;
	return (now_ns() - began) / calls;
}

static double least(int (*one)(const char *), const char *path)
{
	double first = batch(one, path, 200), found = first;
	if (first <= 0)
		return -1;
	long calls = BATCH_NS / first;
	for (int n = 0; n < BATCHES; n++) {
		double took = batch(one, path, calls < 200 ? 200 : calls);
		if (took < found)
			found = took;
	}
	return found;
}

int main(int argc, char **argv)
{
	double getppid_ns = least(of_getppid, argv[0]), open_close_ns = least(of_open_close, argv[0]);
	if (argc < 1 || getppid_ns < 0 || open_close_ns < 0)
		return 1;
	printf("{\"getppid\":\"%.1f\",\"open-close\":\"%.1f\"}\n", getppid_ns, open_close_ns);
	return 0;
}
