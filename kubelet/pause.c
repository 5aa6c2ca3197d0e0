// SPDX-License-Identifier: Apache-2.0
// The process of a pod's sandbox: holds its namespaces, reaps what is orphaned to it when the pod
// shares one PID namespace, and ends on SIGTERM or SIGINT. No C library: it is part of every pod.
#include <asm/unistd.h>

#define SIG_INT 2
#define SIG_TERM 15
#define SIG_CHLD 17

static long call4(long nr, long a, long b, long c, long d)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    long ret;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return ret;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
#else
#error "no system calls for this architecture"
#endif
}

void _start(void);
__attribute__((noreturn, used)) void _start(void)
{
    // Blocked signals are fetched one by one: no handler, no race.
    unsigned long set = 1UL << (SIG_INT - 1) | 1UL << (SIG_TERM - 1) | 1UL << (SIG_CHLD - 1);
    call4(__NR_rt_sigprocmask, 0 /* SIG_BLOCK */, (long)&set, 0, sizeof(set));
    for (;;) {
        long sig = call4(__NR_rt_sigtimedwait, (long)&set, 0, 0, sizeof(set));
        if (sig == SIG_INT || sig == SIG_TERM)
            call4(__NR_exit_group, 0, 0, 0, 0);
        while (call4(__NR_wait4, -1, 0, 1 /* WNOHANG */, 0) > 0)
            ;
    }
}
