// Dispatches that follow each other without a barrier: kernels with CHAINED. Workgroups of one may
// run while some of the dispatch in front still do. They fetch what depends on nobody (around
// ChainLook), wait (ChainWait), and count themselves when their results are written (ChainSignal).
// Needs CHAIN_BINDING, CHAIN_CONSTANT and, with CHAIN_LINK among the push constants, ChainParams.
// Without CHAINED nothing happens here.
//
// What one dispatch leaves and a later one reads or overwrites stands in buffers that are
// HANDED_OVER. Counting releases at device scope, waiting acquires. Every dispatch waits for the
// one in front, so whatever came before that is there, too, and is done with what it read.
//
// Vulkan does not promise that a workgroup gets its turn while others wait for it. But a queue
// starts its dispatches' workgroups in order: those that are waited for run or are done. So it was
// on an H200 with grids that fit at once; at the start stage/chain.h tries it with larger ones.
// Should it be otherwise, waiting ends after `polls` looks, all further waits of the chain with
// it, and the host learns of it.
//
// Kernels with MEMORY_MODEL say `#pragma use_vulkan_memory_model`, so that what was acquired may be
// cached: many workgroups of a core read the same. The others do without: with it lavapipe of Mesa
// 22.3 ends workgroups early in kernels that use shared memory in loops. Coherent buffers are what
// stands for it.
#if defined(CHAINED)
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#if defined(MEMORY_MODEL)
#define HANDED_OVER nonprivate
#define CHAIN_ACQUIRE (gl_SemanticsAcquire | gl_SemanticsMakeVisible)
#define CHAIN_RELEASE (gl_SemanticsRelease | gl_SemanticsMakeAvailable)
#define CHAIN_BOTH \
  (gl_SemanticsAcquireRelease | gl_SemanticsMakeVisible | gl_SemanticsMakeAvailable)
#else
#define HANDED_OVER coherent
#define CHAIN_ACQUIRE gl_SemanticsAcquire
#define CHAIN_RELEASE gl_SemanticsRelease
#define CHAIN_BOTH gl_SemanticsAcquireRelease
#endif

// Counting releases what all of the workgroup have written, as Vulkan has it; else each invocation
// releases its own, for drivers that let those of other subgroups be overtaken.
layout(constant_id = CHAIN_CONSTANT) const bool CUMULATIVE = false;

layout(std430, set = 0, binding = CHAIN_BINDING) buffer ChainWords { uint chain_words[]; };
// The number of a dispatch that was waited for in vain, from 1 on.
layout(std430, set = 0, binding = CHAIN_BINDING + 1) writeonly buffer ChainReport {
  uint chain_report;
};

bool ChainLeader() { return gl_SubgroupID == 0u && gl_SubgroupInvocationID == 0u; }

uint ChainWord(uint at) { return atomicLoad(chain_words[at], gl_ScopeDevice, 0, 0); }

// What the leader has acquired is there for its workgroup; what that has written, the leader
// releases.
void ChainBarrier() {
  controlBarrier(gl_ScopeWorkgroup, gl_ScopeWorkgroup,
                 gl_StorageSemanticsBuffer | gl_StorageSemanticsShared, CHAIN_BOTH);
}

// A first look, for ChainWait, which is under way along with what is fetched behind it.
uint ChainLook() { return ChainLeader() ? ChainWord(chain.wait_at) : 0u; }

void ChainWait(uint looked) {
  if (chain.wait_for == 0u) return;
  if (ChainLeader()) {
    uint polls = 0u;
    while (looked < chain.wait_for) {
      looked = ChainWord(chain.wait_at);
      ++polls;
      if (polls % 64u == 0u && ChainWord(kChainFailed) != 0u) break;
      if (looked >= chain.wait_for || polls < chain.polls) continue;
      atomicStore(chain_words[kChainFailed], 1u, gl_ScopeDevice, 0, 0);
      chain_report = chain.wait_at / kChainLine;
      break;
    }
    memoryBarrier(gl_ScopeDevice, gl_StorageSemanticsBuffer, CHAIN_ACQUIRE);
  }
  ChainBarrier();
}

void ChainSignal() {
  if (!CUMULATIVE)
    memoryBarrier(gl_ScopeDevice, gl_StorageSemanticsBuffer, CHAIN_RELEASE);
  ChainBarrier();
  if (ChainLeader())
    atomicAdd(chain_words[chain.signal_at], 1u, gl_ScopeDevice, gl_StorageSemanticsBuffer,
              CHAIN_RELEASE);
}
#else
#define HANDED_OVER
uint ChainLook() { return 0u; }
void ChainWait(uint looked) {}
void ChainSignal() {}
#endif
