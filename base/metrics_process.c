// SPDX-License-Identifier: Apache-2.0
#include "base/metrics.h"
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static void put(struct kl_buf *out, const char *name, const char *type, const char *help)
{
    kl_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void kl_metrics_write_process(struct kl_buf *out)
{
    long long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%lld %lld", &total, &resident) != 2)
        total = resident = 0;
    if (f)
        fclose(f);
    long long page = sysconf(_SC_PAGESIZE);
    struct rusage u = {0};
    getrusage(RUSAGE_SELF, &u);
    put(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.");
    kl_buf_printf(out, "process_resident_memory_bytes %lld\n", resident * page);
    put(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.");
    kl_buf_printf(out, "process_virtual_memory_bytes %lld\n", total * page);
    put(out, "process_cpu_seconds_total", "counter", "Total user and system CPU time in seconds.");
    kl_buf_printf(out, "process_cpu_seconds_total %.3f\n",
                  (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                      (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
}
