// SPDX-License-Identifier: Apache-2.0
// Server-side printing: the cells of columns.json for one object (meta.k8s.io/v1 Table rows).
#pragma once
#include "base/buf.h"
#include "object/resource.h"
#include "object/value.h"

// The columnDefinitions array of the resource, as JSON text (constant). A row outside kl_resources
// is a custom resource's: name and age.
struct kl_str kl_table_columns_json(const struct kl_resource *r);
// Appends `"cells":[...]` and, where upstream gives them, `,"conditions":[...]` of one row.
void kl_table_cells(struct kl_buf *out, const struct kl_resource *r, const struct kl_value *root,
                    int64_t now_us);
// The same for a Scale, which the scale subresource of any resource answers.
struct kl_str kl_table_scale_columns_json(void);
void kl_table_scale_cells(struct kl_buf *out, const struct kl_value *root, int64_t now_us);
