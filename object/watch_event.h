// SPDX-License-Identifier: Apache-2.0
// The types of metav1.WatchEvent.
#pragma once

enum kl_event_type { KL_EVENT_ADDED, KL_EVENT_MODIFIED, KL_EVENT_DELETED, KL_EVENT_BOOKMARK };
