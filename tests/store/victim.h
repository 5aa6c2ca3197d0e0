// SPDX-License-Identifier: Apache-2.0
// A process that writes until it is killed, and the judge of what it leaves: every write that was
// acknowledged is there, no revision was used twice and none is missing, no transaction is half
// done.
#pragma once
#include "harness.h"
#include <sys/types.h>

struct vi_plan {
    const char *url;
    const struct kl_store_options *o;
    uint64_t seed;
    int64_t seq;       // its values are above this
    int value_bytes;   // [400]
    int compact_every; // acknowledgements [500]; < 0: never
    bool huge;         // now and then a transaction of 8 MB
    const char *point; // where it dies: its nth call (base/fault.h) [only when it is killed]
    long nth;
    const char *fails; // a fault on the way there, once [none]
};

// The process; *ret_fd is what vi_take reads.
pid_t vi_start(const struct vi_plan *p, int *ret_fd);
// Waits for its end. 0: by SIGKILL; else what it exited with.
int vi_wait(pid_t pid);

struct vi_judge;
struct vi_judge *vi_judge_new(void);
void vi_judge_free(struct vi_judge *j);
// Reads acknowledgements for so long; false: the process has closed its end.
bool vi_take(struct vi_judge *j, int fd, int ms);
// Of an open store. Afterwards the judge expects only revisions above what is there.
void vi_check(struct vi_judge *j, struct hs_store *hs, const char *what);
int64_t vi_seq(const struct vi_judge *j); // the newest value that was seen
kl_rev vi_rev(const struct vi_judge *j);  // the newest revision that was acknowledged
long vi_acks(const struct vi_judge *j);
// The log was set back on purpose: what was acknowledged until now counts no more, but revisions
// stay used.
void vi_forget(struct vi_judge *j);
