#pragma once
/// @file
/// What Hopper adds: clusters, mbarrier and TMA (sm_90), wgmma, register budgets and multicast copies (sm_90a). On other GPUs these trap.
#include "common/cuda/cluster.hpp"
#include "common/cuda/device.hpp"
#include "common/cuda/mbarrier.hpp"
#include "common/cuda/register_budget.hpp"
#include "common/cuda/tensor_map.hpp"
#include "common/cuda/wgmma.hpp"
