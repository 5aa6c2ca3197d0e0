// SPDX-License-Identifier: Apache-2.0
// Startup, liveness and readiness probes of running containers. Results are written into the
// container (kl_ctr.probe) and its pod is looked at again when one changes.
#pragma once
#include "kubelet/pod_core.h"

struct kl_kubelet;
struct kl_pod;
struct kl_probes;

struct kl_probes *kl_probes_new(struct kl_kubelet *k);
void kl_probes_free(struct kl_probes *ps);
// The container runs: its probes begin. Called again for a running one it does nothing.
void kl_probes_ctr_running(struct kl_probes *ps, struct kl_pod *p, struct kl_ctr *c);
// Of containers that were found running.
void kl_probes_adopt(struct kl_probes *ps, struct kl_pod *p);
void kl_probes_ctr_ended(struct kl_probes *ps, const struct kl_ctr *c);
void kl_probes_forget(struct kl_probes *ps, const struct kl_pod *p);
