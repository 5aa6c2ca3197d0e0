// SPDX-License-Identifier: Apache-2.0
// Countdown faults for tests: a named site in the product asks whether this call must fail. In
// builds without KL_FAULTS a site is the constant false and costs nothing.
//
//   if (kl_fault_point("store.fsync"))
//       return kl_error_set(err, KL_EIO, "fsync %s: injected", path);
//
// A sweep over every failing call: run with kl_fault_set(site, 1, 1), then 2, ... until
// kl_fault_hits(site) stays 0.
#pragma once
#include <stdbool.h>

#ifdef KL_FAULTS
// Any thread. Counts the call; true when it is one that must fail.
bool kl_fault_point(const char *site);
// Where a process may die: SIGKILL to itself when it is the call that must fail.
void kl_fault_crash(const char *site);
#else
#define kl_fault_point(site) (false)
#define kl_fault_crash(site) ((void)0)
#endif

// Lets the nth call from now (1: the next) and the times - 1 after it fail; times < 0: all from
// there on; nth 0: none, only counted. At most 32 sites; any thread. Without KL_FAULTS does
// nothing.
void kl_fault_set(const char *site, long nth, long times);
void kl_fault_clear(void);             // forgets every site
long kl_fault_calls(const char *site); // calls since kl_fault_set, 0 for sites never set
long kl_fault_hits(const char *site);  // of these, how many were made to fail
bool kl_fault_built(void);             // whether the library was built with KL_FAULTS
