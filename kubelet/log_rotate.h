// SPDX-License-Identifier: Apache-2.0
// Keeps the logs of running containers at 10 MiB and five files each.
#pragma once

struct kl_kubelet;
struct kl_log_rotate;

struct kl_log_rotate *kl_log_rotate_new(struct kl_kubelet *k); // NULL: out of memory
void kl_log_rotate_free(struct kl_log_rotate *lr);             // accepts NULL
// Blocking: a log and all that was rotated away from it.
void kl_logs_remove(const char *path);
