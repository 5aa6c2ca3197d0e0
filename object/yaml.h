// SPDX-License-Identifier: Apache-2.0
// YAML through libyaml, mapped to JSON's model as sigs.k8s.io/yaml does (YAML 1.1 booleans, anchors
// bounded against expansion, one document a call).
#pragma once
#include "object/json.h"

int kl_yaml_parse(struct kl_arena *a, struct kl_str text, struct kl_strict *strict,
                  struct kl_value *ret_untyped, struct kl_error *err);
// Splits a stream at document marks; false when exhausted. For manifests.
bool kl_yaml_next_document(struct kl_str *rest, struct kl_str *ret_document);
int kl_yaml_write(struct kl_buf *out, const struct kl_value *untyped); // keys in go-yaml's order
