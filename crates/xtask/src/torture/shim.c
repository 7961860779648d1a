/* Loaded into a gateway (LD_PRELOAD): a slow disk and a clock that jumps.

   While the file that SLOW_SYNC names exists, each sync takes half a second.
   The first eight bytes of the file that CLOCK_OFFSET names are seconds by which
   the wall clock is wrong; they may change at any time. Whoever waited until a
   time by the wall clock would be woken at the wrong moment: nobody should. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offset;

/* Before the program allocates: nothing below does. */
__attribute__((constructor)) static void map_offset(void) {
    const char *name = getenv("CLOCK_OFFSET");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        offset = mapped;
    close(file);
}

static int64_t wrong_by(void) { return offset ? *offset : 0; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += wrong_by();
    return result;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *seconds) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds)
        *seconds = now.tv_sec;
    return now.tv_sec;
}

static void wait_a_while(void) {
    const char *switched_on = getenv("SLOW_SYNC");
    struct timespec half_a_second = {0, 500000000};
    if (switched_on && access(switched_on, F_OK) == 0)
        nanosleep(&half_a_second, NULL);
}

int fdatasync(int file) {
    wait_a_while();
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    wait_a_while();
    return (int)syscall(SYS_fsync, file);
}
