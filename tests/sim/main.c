// SPDX-License-Identifier: Apache-2.0
// sim-raft [--seeds N] [--first N] [--seconds N] [--jobs N] [--without WHAT] [--verbose]
// Runs seeds; then goes without each of the things that make raft:// safe and must find that out.
// SIM_SEEDS: how many; SIM_SEED: that one alone, with everything that happens.
#include "sim.h"
#include "base/log.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEEDS = 2000, SECONDS = 20, WITHOUT_SEEDS = 3000, FOUND = 3 };

static const char *const names[] = {"", "gate", "barrier", "sync", "round"};

struct total {
    uint64_t runs, steps, elections, crashes, acked, reads, installs, changes, skipped, snapshots;
};

static uint64_t seed_now;

// libraft's assertions end in it as well.
static void on_abort(int sig)
{
    char line[64];
    int n =
        snprintf(line, sizeof(line), "seed %llu: signal %d\n", (unsigned long long)seed_now, sig);
    if (write(1, line, (size_t)n) != n)
        _exit(2);
    signal(sig, SIG_DFL);
    raise(sig);
}

static bool run_one(const struct sim_options *o, struct total *t, bool quiet)
{
    seed_now = o->seed;
    struct sim *s = sim_run(o);
    bool ok = !s->broken;
    if (!ok && quiet)
        printf("without %s: seed %llu: %s: %s\n", names[o->without], (unsigned long long)o->seed,
               s->broken, s->detail);
    else if (!ok || o->verbose)
        sim_print(s);
    t->runs++;
    t->steps += s->steps;
    t->elections += s->elections;
    t->crashes += s->crashes;
    t->acked += s->acked;
    t->reads += s->reads;
    t->installs += s->installs;
    t->changes += s->changes;
    t->skipped += s->skipped;
    t->snapshots += s->snapshots_taken;
    sim_free(s);
    return ok;
}

static int run_share(struct sim_options o, uint64_t first, uint64_t n, int job, int jobs, int out)
{
    struct total t = {0};
    int failed = 0;
    for (uint64_t i = (uint64_t)job; i < n && failed < 5; i += (uint64_t)jobs) {
        o.seed = first + i;
        failed += !run_one(&o, &t, o.without != SIM_NOTHING);
        if (o.without && failed)
            break;
        fflush(stdout);
    }
    if (write(out, &t, sizeof(t)) != sizeof(t))
        return 2;
    return failed ? FOUND : 0;
}

// In processes of their own: libraft aborts where it finds itself in a state that cannot be.
// Returns how many of them found something.
static int run_jobs(const struct sim_options *o, uint64_t first, uint64_t n, int jobs,
                    struct total *ret)
{
    int found = 0, fd[2];
    if (pipe(fd))
        return jobs;
    fflush(stdout);
    for (int j = 0; j < jobs; j++) {
        pid_t pid = fork();
        if (pid == 0) {
            signal(SIGABRT, on_abort);
            signal(SIGSEGV, on_abort);
            int r = run_share(*o, first, n, j, jobs, fd[1]);
            fflush(stdout);
            _exit(r);
        }
    }
    for (int j = 0; j < jobs; j++) {
        int status = 0;
        if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status))
            found++;
    }
    close(fd[1]);
    for (struct total t; read(fd[0], &t, sizeof(t)) == sizeof(t);) {
        uint64_t *a = (uint64_t *)ret, *b = (uint64_t *)&t;
        for (size_t i = 0; i < sizeof(t) / sizeof(*a); i++)
            a[i] += b[i];
    }
    close(fd[0]);
    return found;
}

static void print_total(const struct total *t)
{
    printf("%llu runs, %llu steps, %llu elections, %llu crashes, %llu writes, %llu reads, %llu "
           "snapshots, %llu installed, %llu changes of members, %llu entries skipped\n",
           (unsigned long long)t->runs, (unsigned long long)t->steps,
           (unsigned long long)t->elections, (unsigned long long)t->crashes,
           (unsigned long long)t->acked, (unsigned long long)t->reads,
           (unsigned long long)t->snapshots, (unsigned long long)t->installs,
           (unsigned long long)t->changes, (unsigned long long)t->skipped);
}

int main(int argc, char **argv)
{
    struct sim_options o = {.seconds = SECONDS};
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *env = getenv("SIM_SEEDS"), *one = getenv("SIM_SEED");
    uint64_t seeds = env ? strtoull(env, NULL, 10) : SEEDS, first = 1;
    int jobs = 2, without = -1;
    kl_log_setup(KL_LOG_NONE, false);
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *b = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(a, "--verbose") == 0) {
            o.verbose = true;
            continue;
        }
        i++;
        if (strcmp(a, "--seeds") == 0)
            seeds = strtoull(b, NULL, 10);
        else if (strcmp(a, "--first") == 0)
            first = strtoull(b, NULL, 10);
        else if (strcmp(a, "--seconds") == 0)
            o.seconds = atoi(b);
        else if (strcmp(a, "--jobs") == 0)
            jobs = atoi(b);
        else if (strcmp(a, "--seed") == 0)
            one = b;
        for (int k = 1; strcmp(a, "--without") == 0 && k < (int)KL_COUNT(names); k++)
            without = strcmp(b, names[k]) == 0 ? k : without;
    }
    struct total t = {0};
    if (one) {
        o.seed = strtoull(one, NULL, 10);
        o.verbose = o.verbose || getenv("SIM_SEED");
        o.without = without > 0 ? (enum sim_without)without : SIM_NOTHING;
        kl_log_setup(o.verbose ? KL_LOG_DEBUG : KL_LOG_NONE, false);
        bool ok = run_one(&o, &t, false);
        print_total(&t);
        return !ok;
    }
    int bad = 0;
    if (without < 0) {
        bad = run_jobs(&o, first, seeds, jobs, &t);
        print_total(&t);
    }
    for (int k = 1; k < (int)KL_COUNT(names); k++) {
        if (without >= 0 && k != without)
            continue;
        struct total w = {0};
        o.without = (enum sim_without)k;
        if (!run_jobs(&o, first, WITHOUT_SEEDS, jobs, &w)) {
            printf("without %s: not found in %d seeds\n", names[k], WITHOUT_SEEDS);
            bad++;
        }
    }
    return bad != 0;
}
