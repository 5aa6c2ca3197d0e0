// SPDX-License-Identifier: Apache-2.0
// Objects from YAML and JSON files, applied in this order: definitions of kinds, namespaces, what
// is built in, custom objects (which wait for their kind to be served).
#pragma once
#include "client/client.h"

struct kl_manifests;

// Reads the files, and of directories those that end with .yaml, .yml or .json, sorted by name.
// Of crds only CustomResourceDefinitions are taken, as envtest does it. Either list may be NULL.
// Blocking. An error names the file.
int kl_manifests_read(const char *const *crds, const char *const *paths, struct kl_manifests **ret,
                      struct kl_error *err);
size_t kl_manifests_count(const struct kl_manifests *m);
// Applies them as the client's user, on its loop; then done comes, once: code 0, or what failed.
// The client is borrowed until then.
void kl_manifests_apply(struct kl_manifests *m, struct kl_client *client,
                        void (*done)(void *arg, int code, const struct kl_error *err), void *arg);
void kl_manifests_free(struct kl_manifests *m); // accepts NULL; not while they are applied
