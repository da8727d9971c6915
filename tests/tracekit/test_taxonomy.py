"""Does the taxonomy name a kernel's work right, on names that nobody wrote a rule for one by one?"""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from shared_data import SHARED

from tracekit.errors import TracekitError
from tracekit.outline import outline, short_name, words
from tracekit.taxonomy import UNKNOWN, Family, Rule, Taxonomy

TAXONOMY = Taxonomy.default()
LABELS = SHARED / "kernel_labels.tsv"

# Names as the libraries write them, by the family that their work belongs to. A line is one kernel.
NAMES = {
    "gemm": r"""
nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_NTN
nvjet_sm100_tst_mma_128x64x64_6_16x64x32_cta128x64x64_2cta_tmaAB_bias_TNT
nvjet_qqtst_64x192_128x6_1x2_h_bz_TNT
ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x3_tn
ampere_fp16_s16816gemm_fp16_64x64_ldg8_relu_f2f_stages_64x5_tn
turing_fp16_s1688gemm_fp16_128x128_ldg8_f2f_tn
volta_fp16_s884gemm_fp16_128x64_ldg8_f2f_nn
volta_h884gemm_64x64_ldg8_tn
volta_cgemm_32x32_tn
maxwell_sgemm_128x64_nt
sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x32_stage4_warpsize2x2x1_ffma_aligna8_alignc8_execute_kernel__5x_cublas
sm90_xmma_gemm_e4m3e4m3_e4m3f32_f32_tn_n_tilesize64x64x128_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x_cublas
void gemmSN_TN_kernel<float, 128, 16, 2, 4, 4, 4, true, cublasGemvTensorStridedBatched<float const>, cublasGemvTensorStridedBatched<float const>, cublasGemvTensorStridedBatched<float> >(cublasGemmSmallNParams<cublasGemvTensorStridedBatched<float const>, cublasGemvTensorStridedBatched<float const>, cublasGemvTensorStridedBatched<float>, float>)
void gemmSN_NN_kernel<float, 256, 4, 2, 8, 5, 4, false, cublasGemvTensorStridedBatched<float const> >(int)
void gemvNSP_kernel<float, float, float, float, 1, 32, 4, 1024, cublasGemvParamsEx<int, cublasGemvTensorStridedBatched<float const> > >(int)
void gemv2T_kernel_val<int, int, __half, __half, __half, float, 128, 16, 4, 4, false, false, cublasGemvParamsEx<int, cublasGemvTensorStridedBatched<__half const>, float> >(cublasGemvParamsEx<int, float>, float, float)
void gemv2N_kernel<int, int, float2, float2, float2, float2, 128, 8, 4, 4, 1, false>(int)
std::enable_if<!(true), void>::type internal::gemvx::kernel<int, int, __nv_bfloat16, __nv_bfloat16, __nv_bfloat16, float, false, true, true, false, 6, false, cublasGemvParamsEx<int, float> >(cublasGemvParamsEx<int, float>)
void cutlass::Kernel2<cutlass_75_tensorop_f16_s1688gemm_f16_128x128_nn_align8>(cutlass_75_tensorop_f16_s1688gemm_f16_128x128_nn_align8::Params)
void cutlass::Kernel2<cutlass_80_wmma_tensorop_f16_s161616gemm_f16_16x16_128x2_tn_align8>(cutlass_80_wmma_tensorop_f16_s161616gemm_f16_16x16_128x2_tn_align8::Params)
void cutlass::Kernel<cutlass::gemm::kernel::GemmUniversal<cutlass::gemm::threadblock::MmaMultistage<cutlass::gemm::GemmShape<128, 128, 32>, cutlass::transform::threadblock::PredicatedTileAccessIterator<cutlass::MatrixShape<128, 32>, float> >, cutlass::epilogue::threadblock::Epilogue<float>, cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<8>, void> >(int)
void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cute::tuple<int, int, int, int>, cutlass::gemm::collective::CollectiveMma<cutlass::gemm::MainloopSm90TmaGmmaWarpSpecialized<4, cute::tuple<cute::C<2>, cute::C<1>, cute::C<1> > > >, cutlass::epilogue::collective::CollectiveEpilogue<cutlass::epilogue::Sm90TmaWarpSpecialized<4, 2, 16, true, false> >, cutlass::gemm::PersistentScheduler, void> >(cutlass::gemm::kernel::GemmUniversal<int>::Params)
_ZN7cutlass13device_kernelINS_4gemm6kernel13GemmUniversalIN4cute5tupleIJiiiiEEENS1_10collective13CollectiveMmaINS1_34MainloopSm90TmaGmmaWarpSpecializedILi4EEEEEEEEEvNT_6ParamsE
void cutlass::device_kernel<vllm::enable_sm90_or_later<cutlass::gemm::kernel::GemmUniversal<cute::tuple<int, int, int, int>, int> > >(int)
void cutlass::device_kernel<at::cuda::detail::enable_3x_kernel_for_sm9x<cutlass::gemm::kernel::GemmUniversal<cute::tuple<int, int, int, int> > > >(int)
void deep_gemm::sm90_fp8_gemm_1d2d_impl<0u, 7168u, 2048u, 1u, 64u, 112u, 128u>(float*, int*, unsigned int)
void deep_gemm::fp8_gemm_kernel<4096u, 7168u, 128u, 128u, 128u, 1u, 5u, 128u, 128u, 1u, (deep_gemm::GemmType)0>(__nv_bfloat16*, float*, int*)
deep_gemm::sm100_m_grouped_fp8_gemm_masked_1d1d
Cijk_Alik_Bljk_HHS_BH_Bias_HAS_SAV_UserArgs_MT128x128x64_MI32x32x1_SN_LDSB0_GSU2_PostGSU
Cijk_Ailk_Bljk_F8BS_BH_Bias_AS_SAB_SAV_UserArgs_MT256x256x128_MI16x16x1_SN
Cijk_Ailk_Bjlk_SB_MT64x64x16_MI32x32x1x2_SE_1LDSB0_APM1_AF0EM1_AF1EM1_AMAS3_ASBE01_ASEM1_BL1_DTLA0
_ZN2ck16tensor_operation6device12_GLOBAL__N_127kernel_gemm_xdl_cshuffle_v3ILb1EEEvT_
_ZN2ck27kernel_gemm_xdl_cshuffle_v3INS_42GridwiseGemmMultiD_ABScale_xdl_cshuffle_v3INS_13tensor_layout4gemm8RowMajorENS3_11ColumnMajorEEELb1ELNS_25InMemoryDataOperationEnumE0ELi2ELNS_10TailNumberE10EEEvNT_8ArgumentE
void ck::kernel_gemm_xdl_cshuffle_v3<ck::GridwiseGemm_xdl_cshuffle_v3<ck::tensor_layout::gemm::RowMajor> >(int)
_ZN7ck_tile6kentryILi256ELi1ENS_10GemmKernelINS_21GemmTile1DPartitionerIiEEEEEEvv
_ZN5aiter47fmoe_bf16_blockscaleFp8_g1u1_vs_silu_1tg_32x256E
_ZN5aiter49fmoe_stage1_bf16_pertokenFp8_g1u1_128x128_2tg_pf2E
_ZN5aiter39bf16gemm_fp32bf16_tn_96x64_splitk_cleanE
_ZN5aiter42f4gemm_bf16_per1x32Fp4_BpreShuffle_256x256E
_ZN2ck16tensor_operation6device33kernel_moe_gemm_2lds_xdl_cshuffleEv
void wvSplitK_hf_sml_<__hip_bfloat16, 64, 2, 16, 8, 2, 1>(int, int, __hip_bfloat16 const*, __hip_bfloat16 const*, __hip_bfloat16*, int)
void LLGemm1_kernel<c10::Half, 4>(float4*, float4*, c10::Half*, int)
matmul_kernel
matmul_kernel_persistent
_matmul_kernel_0d1d2d34567c89c
_w8a8_block_fp8_matmul
_w8a8_block_int8_matmul
scaled_mm_kernel
awq_gemm_kernel
_scaled_grouped_mm
fused_moe_kernel
fused_moe_kernel_gptq_awq
_group_gemm_kernel
grouped_matmul_kernel
_p_matmul_ogs_NTN_bf16xbf16xmxfp4_16x256x128x1
_matmul_ogs_NNT_fp8xfp8xmxfp4_64x128x128x1_swiglu
bmm_E4m3_E4m3E4m3_Fp32_t128x8x128u2_s6_et64x8_m64x8x32_cga1x1x1_16dp256b_TN_transOut_schedS_rgTma_clmp_dynBatch_sm100f
void tensorrt_llm::kernels::cutlass_kernels::moe_gemm_kernel<float>(int)
void cutlass::Kernel<cutlass::gemm::kernel::MoeFCGemm<cutlass::gemm::threadblock::DqMmaMultistage<float> > >(int)
void cutlass::Kernel<fastertransformer::GemmFpAIntB<float> >(int)
void cutlass_kernels::fused_moe::sm90_generic_moe_gemm<float>(int)
void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cutlass::gemm::GroupProblemShape<cute::tuple<int, int, int> >, int> >(int)
void marlin::Marlin<__half, 1125899906909960l, 256, 1, 8, 8, false, 4, 8, false>(int4 const*)
void marlin_moe_wna16::Marlin<__nv_bfloat16, 2814749767107584l, 256, 4, 16, 4, false, 4>(int4 const*)
void Marlin_24<256, 4, 2, 2, 1, 4, 4, 8>(int)
void cutlass::device_kernel<machete::MacheteKernel<float> >(int)
void vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, 8>(__half const*)
void vllm::awq::gemm_forward_4bit_cuda_m16nXk32<128>(int, int, __half*)
void kgemm_4bit_inference_naive<__nv_bfloat16, 128, 16>(int, int, int, __nv_bfloat16*)
void gemm_half_q_half_kernel<false, 1, true, true>(__half const*)
void mul_mat_vec_q<float, 32, 4>(void const*, void const*, float*)
void mul_mat_q4_K<float, false>(void const*)
void at::native::tinygemm_m16n8k16_chunk_kernel<at::native::ALayout_RM<(at::native::KReductionType)0> >(int)
_bgmv_expand_slice_kernel
_sgmv_shrink_kernel
_lora_expand_kernel
void bgmv_shrink_kernel<4096, 16, __half, __half, float>(float*)
_sgemm_lora_a_kernel
_qkv_lora_b_kernel
triton_mm
triton_tem_fused_mm_0
triton_tem_fused__scaled_mm__to_copy_5
triton_tem_fused_bmm_3
triton_tem_fused_addmm_relu_sum_2
triton_mm_plus_mm_7
magma_sgemmEx_kernel
void magma_lds128_sgemm_kernel<float, false, true, 5, 5, 3, 3, 3>(int)
RNN_blockPersist_fp_LSTM
void persistRNN_forward<float, 128>(int)
void cusparse::csrmm_v2::csrmm_kernel<float>(int)
_bmm_chunk_fwd_kernel
cutlass_tensorop_s1688gemm_splitk_parallel_128x128_16x4_nn_align4
void splitK_gemm_kernel<float>(int)
_streamk_gemm
ampere_h16816gemm_128x128_ldg8_stages_32x5_nn
std::enable_if<sizeof (float)==4, void>::type gemv_kernel<float>(float)
nvfuser_matmul_f0_c1_r0_g0
_int4_matmul_kernel
void fbgemm_gpu::f8f8bf16_rowwise_gemm<float>(int)
_kernel_matmul_fp8_row
_kernel_grouped_gemm_fp8_rowwise
sm80_xmma_gemm_f16f16_f16f32_f32_nn_n_tilesize64x64x64_stage3_warpsize2x2x1_tensor16x8x16_execute_split_k_kernel__5x_cublas
ampere_bf16_s1688gemm_bf16_128x128_ldg8_f2f_stages_32x1_nn
sm90_xmma_gemm_bf16f32_bf16f32_f32_nn_n_tilesize128x128x64_warpgroupsize1x1x1_bias_f16_execute_segment_k_off_kernel__5x_cublas
void gemmNSP_kernel<float, 1>(int)
void cutlass::Kernel2<cutlass_80_tensorop_d884gemm_64x64_16x4_nn_align1>(int)
cutlass3x_sm100_tensorop_s256x128x16gemm_bf16_bf16_f32_bf16_bf16_256x128x64_tnn_align8_2sm
void cutlass::device_kernel<cutlass::gemm::kernel::Sm90GroupGemm<int> >(int)
void cask_plugin_cudnn::xmma_cudnn::gemm::kernel<xmma_cudnn::implicit_gemm::Foo>(int)
_int8_linear_matmul
_scaled_mm_kernel
_gemm_a8w8_blockscale_kernel
_batched_gemm_a16wfp4_kernel
gemm_a16w16_kernel
_gemm_afp4_wfp4_kernel
_moe_mxfp4_gemm
fused_moe_wna16_kernel
moe_gemm_fp8
e2e_moe_kernel
bf16_gemm_kernel
hgemm_tn_kernel
tgemm
triton_bmm_12
linear_kernel
cgemm_64x32
int4_gemv
ffma2_sgemm
""",
    "attention": r"""
_attn_fwd
_attn_bwd
_attn_bwd_dkdv
_bwd_kernel_dk_dv
_fwd_kernel
attn_fwd_0d1d2d34d5d6de7de
flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel
void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<pytorch_flash::Flash_bwd_kernel_traits<64, 128, 128, 8, 4, 4, 4, false, false, cutlass::half_t>, false, true, false>(pytorch_flash::Flash_bwd_params)
void flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<128, 64, 128, 4, false, false, cutlass::bfloat16_t>, true, false, false, false, true, true, false>(flash::Flash_fwd_params)
void flash::flash_fwd_splitkv_combine_kernel<Flash_fwd_kernel_traits<128, 64, 128, 4>, 4, 3, true>(flash::Flash_fwd_params)
void pytorch_flash::flash_bwd_dot_do_o_kernel<true, pytorch_flash::Flash_bwd_kernel_traits<64, 128, 128, 8> >(pytorch_flash::Flash_bwd_params)
void pytorch_flash::flash_bwd_convert_dq_kernel<pytorch_flash::Flash_bwd_kernel_traits<64, 128, 128, 8> >(pytorch_flash::Flash_bwd_params, int)
void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<flash::CollectiveMainloopFwdSm90<2, cute::tuple<cute::C<1>, cute::C<1>, cute::C<1> >, cute::tuple<cute::C<128>, cute::C<176>, cute::C<128> >, 128, cutlass::bfloat16_t, float, cutlass::arch::Sm90, true>, flash::CollectiveEpilogueFwd<int>, flash::SingleTileScheduler<false> > > >(int)
_ZN7cutlass13device_kernelIN5flash20enable_sm90_or_laterINS1_16FlashAttnFwdSm90INS1_25CollectiveMainloopFwdSm90ILi2EEEEEEEEEvNT_6ParamsE
void cutlass::device_kernel<flash::enable_sm80_to_sm89<flash::FlashAttnBwdSm80<int> > >(int)
void cutlass::device_kernel<flash::FlashAttnBwdPreprocess<cute::tuple<int>, int> >(int)
void cutlass::device_kernel<cutlass::fmha::kernel::Sm100FmhaFwdKernelTmaWarpspecialized<cute::tuple<int> > >(int)
void cutlass::device_kernel<cutlass::fmha::kernel::Sm100FmhaMlaKernelTmaWarpspecialized<cute::tuple<int> > >(int)
fmha_cutlassF_f32_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel<float, cutlass::arch::Sm80, true, 64, 64, 64, true, true>::Params)
fmha_cutlassB_bf16_aligned_64x64_k64_sm80(PyTorchMemEffAttention::AttentionBackwardKernel<cutlass::bfloat16_t>::Params)
void attention_kernel_batched_impl<AttentionKernel<cutlass::half_t, cutlass::arch::Sm80, true, 64, 128, 64, true, true> >(int)
cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3i_128x128x128_4x1x1_kernel0_0
cudnn_generated_fort_native_sdpa_sm80_flash_bprop_f16_knob_32_64x64x64_1x1x1_kernel0_0
cudnn_generated_oss_sdpa_sm100_flash_fprop_f16_knob_7_128x128x128_kernel0_0
_ZN7ck_tile6kentryILi256ELi2ENS_13FmhaFwdKernelINS_28BlockFmhaPipelineQRKSVSAsyncINS_24BlockFmhaPipelineProblemIDF16bEEEEEEJEEEvDpT1_
_ZN7ck_tile6kentryILi2ENS_19FmhaBwdDQDKDVKernelIiEEJEEEvDpT1_
void ck_tile::kentry<256, 2, ck_tile::FmhaFwdSplitKVKernel<int>, int>(int)
_ZN5aiter38fmha_fwd_hd128_bf16_causal_group_rtna_E
_ZN5aiter38fmha_bwd_hd128_bf16_causal_a32_psskddvE
_ZN5aiter40pa_bf16_pertokenFp8_gqa8_2tg_4w_uhead_hiE
_ZN5aiter33mla_dec_stage1_bf16_a16w16_subQ16E
void vllm::paged_attention_v1_kernel<unsigned short, unsigned short, 128, 16, 128, (vllm::Fp8KVCacheDataType)0, false>(unsigned short*)
void vllm::paged_attention_v2_kernel<unsigned short, unsigned short, 128, 16, 128, (vllm::Fp8KVCacheDataType)0, false, 512>(float*)
void vllm::paged_attention_v2_reduce_kernel<unsigned short, 128, 128, 512>(unsigned short*)
void paged_attention_ll4mi_QKV_mfma16_kernel<__hip_bfloat16, __hip_bfloat16, (vllm::Fp8KVCacheDataType)0, 16, 128, 256, false, 4>(int)
kernel_unified_attention_3d
kernel_paged_attention_2d
_fwd_grouped_kernel_stage1
_fwd_kernel_stage2
_decode_att_m_fwd_kernel
void flashinfer::BatchPrefillWithPagedKVCacheKernel<flashinfer::KernelTraits<(flashinfer::MaskMode)1, 128u, 2u> >(flashinfer::PagedParams)
void flashinfer::BatchPrefillWithRaggedKVCacheKernel<flashinfer::KernelTraits<(flashinfer::MaskMode)1, 128u> >(int)
void flashinfer::SinglePrefillWithKVCacheKernel<flashinfer::KernelTraits<(flashinfer::MaskMode)1> >(int)
void flashinfer::BatchDecodeWithPagedKVCacheKernel<(flashinfer::PosEncodingMode)0, 2u, 4u, 8u, 16u, 8u>(int)
void flashinfer::PersistentVariableLengthMergeStatesKernel<8u, 16u, 8u, 4u, __nv_bfloat16>(int)
void flashinfer::PrefillWithKVCacheKernel<flashinfer::CollectiveMainloop<int> >(int)
void flash_fwd_splitkv_mla_kernel<Flash_fwd_kernel_traits_mla<576, 64, 64, 8>, true>(int)
void sm90::flash_fwd_splitkv_mla_fp8_sparse_kernel<float>(int)
fmhaSm100fKernel_QkvBfloat16OBfloat16H128PagedKvCausalP64MultiCtasKvVarSeqQ8Kv128StaticSwapsAbForGen
fmha_v2_flash_attention_bf16_64_64_S_q_paged_kv_128_sm90_kernel_nl
void kernel_mha<(anonymous namespace)::xqa_params>(int)
void mmha::masked_multihead_attention_kernel<unsigned short, unsigned short, 128, 16>(int)
triton_tem_fused_flex_attention_0
triton_tem_fused__to_copy_flex_attention_backward_view_3
void vllm::merge_attn_states_kernel<__nv_bfloat16, 128>(__nv_bfloat16*)
chunk_gated_delta_rule_fwd_kernel_h_blockdim64
void sage_attn::qk_int_sv_f16_attn_kernel<128, 64>(int)
sparse_attention_fwd_kernel
aten_flash_attention_forward_kernel
_flash_attn_fwd_amd
_paged_decode_attention
kernel_attention_fwd
_fwd_kernel_flash_decode_stage1
_attention_2d_kernel
fmha_fwd_loop_kernel
void fmha_dgrad_fp16_512_64_sm80_kernel(int)
fmha_v2_fp16_S_64_sm80_kernel
_attn_bwd_preprocess
_attn_bwd_dq
bwd_kernel_dq
tuned_attn_bwd
void flashinfer::mla::BatchMLAPagedAttentionKernel<int>(int)
lean_attention
mla_fwd_kernel
_mla_decode_kernel
flex_decoding_kernel
triton_tem_fused_scaled_dot_product_attention_0
batch_prefill_cta_kernel
""",
    "convolution": r"""
sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16_stage4_warpsize2x2x1_g1_tensor16x8x8_kernel_cudnn
sm80_xmma_dgrad_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x256x32_stage3_warpsize2x4x1_g1_tensor16x8x16_kernel_cudnn
sm90_xmma_wgrad_implicit_gemm_indexed_wo_smem_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize64x64_kernel_cudnn
cudnn_infer_ampere_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148t_nt_v1
cudnn_infer_volta_scudnn_128x64_relu_small_nn_v1
volta_scudnn_128x128_stridedB_splitK_interior_nn_v1
volta_fp16_s884cudnn_fp16_256x64_ldg8_relu_f2f_exp_small_nhwc_tn_v1
turing_fp16_s1688cudnn_fp16_128x128_ldg8_relu_f2f_exp_medium_nhwc_tn_v1
ampere_scudnn_128x64_stridedB_splitK_small_nn_v1
void implicit_convolve_sgemm<float, float, 1024, 5, 5, 3, 3, 3, 1, true, false, true>(int, int, int, float const*)
void explicit_convolve_sgemm<float, int, 128, 5, 5, 3, 3, 3, 0, false>(int)
void cudnn::winograd_nonfused::winogradForwardData4x4<float, float>(cudnn::winograd_nonfused::WinogradDataParams<float, float>)
void cudnn::winograd_nonfused::winogradWgradOutput4x4<float, float>(int)
void cudnn::cnn::conv2d_grouped_direct_kernel<false, true, false, false, 0, 0, int, float, float, float, float, float, float>(cudnnTensorStruct)
void cudnn::cnn::wgrad2d_c1_k1_nhwc_kernel<__half>(int)
void cudnn::cnn::dgrad2d_grouped_direct_kernel<false, true, 0, 1, int, float>(int)
void dgrad2d_alg1_1<float, 0, 7, 8, 4, 3, 5, true, true>(int, int)
void wgrad_alg0_engine<float, 128, 5, 5, 3, 3, 3, true, 512>(int)
void cudnn::detail::dgrad_engine<float, 128, 6, 8, 3, 3, 5, false>(int)
void cudnn::detail::convolve_common_engine_float_NHWC<__half, __half, 128, 5>(int)
cudnn::gemm::computeWgradSplitKOffsetsKernel(cudnn::gemm::ComputeSplitKOffsetsParams)
cudnn::cnn::computeBOffsetsKernel(cudnn::cnn::ComputeBOffsetsParams)
void cutlass::Kernel<cutlass_tensorop_f16_s16816fprop_optimized_f16_128x128_64x3_nhwc_align8>(int)
void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816dgrad_optimized_bf16_128x128_32x5_nhwc_unity_stride_align8>(int)
void cutlass::Kernel<cutlass::conv::kernel::ImplicitGemmConvolution<cutlass::conv::threadblock::ImplicitGemmMultistage<cutlass::gemm::GemmShape<64, 64, 64> >, int> >(int)
void cutlass::device_kernel<cutlass::conv::kernel::ConvUniversal<int> >(int)
void at::native::(anonymous namespace)::conv_depthwise2d_forward_kernel<3, float, int>(at::GenericPackedTensorAccessor<float const, 4ul>)
void at::native::(anonymous namespace)::conv_depthwise2d_grad_weight_kernel<float, unsigned int>(int)
void at::native::col2im_kernel<float, float>(long, float const*)
void at::native::vol2col_kernel<float>(long, float const*)
igemm_fwd_gtcx2_nhwc_fp16_bx0_ex0_bt128x128x32_wt32x32x4_ws1x1_wr2x2
miopenSp3AsmConv_v21_1_3_gfx9_fp32_f3x2_stride1
miopenSp3AsmConvRxSU_CBA
miopenGcnAsmConv1x1U
miopenGcnAsmWinogradXformData_3_6_0_0
MIOpenConvUni
gridwise_convolution_implicit_gemm_v4r1_nchw_kcyx_nkhw_lds_double_buffer
naive_conv_ab_nonpacked_fwd_nchw_half_double_half
Im2d2Col
Im2Col
_ZN2ck16tensor_operation6device12_GLOBAL__N_143kernel_grouped_conv_bwd_weight_xdl_cshuffleINS_3FooEEEvT_
_ZN2ck16tensor_operation6device12_GLOBAL__N_143kernel_grouped_conv_multiple_d_xdl_cshuffleINS_3FooEEEvT_
void causal_conv1d_fwd_kernel<Causal_conv1d_fwd_kernel_traits<128, 4, true, c10::BFloat16, c10::BFloat16> >(ConvParamsBase)
_causal_conv1d_update_kernel
triton_tem_fused_convolution_3
triton_convolution2d
deformable_im2col_gpu_kernel
void cask_cudnn_cudnn::computeOffsetsKernel<false, true>(cask_cudnn_cudnn::ComputeOffsetsParams)
conv2d_c1_k1_nhwc_kernel_specialized
sm86_xmma_fprop_first_layer_f16f16
void xmma_cudnn::implicit_gemm::strided_dgrad::kernel<float>(int)
void cutlass_cudnn_infer::Kernel<cutlass_tensorop_s1688fprop_analytic_tf32_128x128_16x4_nhwc_align4>(int)
void precomputed_convolve_sgemm<float, 512, 6, 8, 3, 3, 5, 1, true>(int)
void fft2d_r2c_32x32<float, false, 0u, false>(float2*, float const*, int)
void winograd_get_diff_weight
cudnn_ampere_fprop_s16816
void cudnn::cnn::im2col4d_kernel<float, long>(int)
void at::native::(anonymous namespace)::DepthwiseConv2d_grad_input<float>(int)
""",
    "reduction": r"""
void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::ArgMaxOps<float>, unsigned int, long, 4, 4> >(at::native::ReduceOp<float, at::native::ArgMaxOps<float>, unsigned int, long, 4, 4>)
void at::native::reduce_kernel<128, 4, at::native::ReduceOp<c10::Half, at::native::NormTwoOps<c10::Half, float, float>, unsigned int, float, 4> >(int)
void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float, float, float, at::native::(anonymous namespace)::LogSoftMaxForwardEpilogue>(float*, float const*, int)
void at::native::(anonymous namespace)::cunn_SoftMaxBackward<8, c10::BFloat16, float, float, at::native::(anonymous namespace)::LogSoftMaxBackwardEpilogue>(int)
void at::native::(anonymous namespace)::cunn_SoftMaxForwardSmem<8, float, float, float, at::native::(anonymous namespace)::SoftMaxForwardEpilogue, long>(int)
void (anonymous namespace)::softmax_warp_backward<float, float, float, 10, true, false>(float*)
void at::native::(anonymous namespace)::softmax_warp_forward<float, float, float, 9, false, true>(float*)
void cunn_SpatialSoftMaxForward<float, float, float, int>(int)
void scaled_upper_triang_masked_softmax_warp_forward<__half, __half, float, 11>(__half*)
void softmax_kernel<float>(float*)
void attn_softmax_v2<__half, 4>(__half*)
_softmax_kernel
void at::native::(anonymous namespace)::GammaBetaBackwardSimpleCUDAKernel<float, float>(long)
void at::native::(anonymous namespace)::GammaBetaBackwardCUDAKernelTemplate<c10::BFloat16, float, 32u, 32u, 256u, false, true, true, false>(long)
void at::native::(anonymous namespace)::RowwiseMomentsCUDAKernel<c10::Half>(long)
void at::native::(anonymous namespace)::ComputeInternalGradientsCUDAKernel<float>(long)
void at::native::(anonymous namespace)::layer_norm_grad_input_kernel_vectorized<float, float, false>(float const*)
void cuApplyLayerNorm<float, float, float>(float*, float*, float*, float const*)
void cuComputePartGradGammaBeta<float, float, float>(float const*)
void layer_norm::ln_fwd_kernel<layer_norm::Kernel_traits<__nv_bfloat16, float>, true>(layer_norm::FwdParams)
void transformer_engine::normalization::rmsnorm_bwd_tuned_kernel<transformer_engine::normalization::Kernel_traits<float> >(int)
void transformer_engine::normalization::ln_bwd_finalize_tuned_kernel<int>(int)
_layer_norm_fwd_1pass_kernel
_layer_norm_bwd_dx_fused
_layer_norm_bwd_kernel
_rms_norm_kernel
rms_norm_kernel
_rmsnorm_fwd_kernel
LigerRMSNorm_rms_norm_forward_kernel
liger_cross_entropy_kernel
void flashinfer::norm::FusedAddRMSNormKernel<8u, __nv_bfloat16>(__nv_bfloat16*)
void vllm::rms_norm_static_fp8_quant_kernel<c10::BFloat16, 8, c10::Float8_e4m3fn>(int)
std::enable_if<(((0)==(0)))||(!vllm::_typeConvert<float>::exists), void>::type vllm::fused_add_rms_norm_kernel<float, 0>(float*, float*, float const*, float, int, int)
_ZN7ck_tile6kentryILi1ENS_14Layernorm2dFwdINS_29Layernorm2dFwdPipelineOnePassIiEEEEJEEEvDpT1_
_ZN5aiter35add_rmsnorm_quant_kernel_bf16_fp8_2E
void at::native::batch_norm_reduce_statistics_kernel<float, float, int>(int)
void at::native::batch_norm_backward_reduce_kernel<float, float, float, int>(int)
void at::native::batch_norm_collect_statistics_channels_last_kernel<at::native::InvStd, float, float, 4>(int)
void cudnn::batchnorm_fwtr_nhwc_semiPersist<__half, 4, 6>(int)
void cudnn::bn_bw_1C11_singleread<float, 512, true, 1, 2, 0>(int)
void cudnn::ops::pooling_fw_4d_kernel<float, float, cudnn::maxpooling_func<float, (cudnnNanPropagation_t)0>, 1, false>(int)
MIOpenBatchNormFwdTrainSpatial
MIOpenBatchNormBwdSpatialFinalDScaleDBias
mloPoolingG
mloPoolingForwardNaive
void nhwc_batch_norm_fwd<__half, 128, 2>(int)
void at::native::(anonymous namespace)::avg_pool2d_out_cuda_frame_nhwc<float, float, int>(int)
void at::native::(anonymous namespace)::adaptive_average_pool<float>(float const*)
void at::native::(anonymous namespace)::max_pool_backward_nhwc<c10::Half, float>(int)
void at::native::(anonymous namespace)::nll_loss_forward_reduce_cuda_kernel_2d<float, float, long>(float*)
void at::native::(anonymous namespace)::nll_loss_backward_reduce_cuda_kernel_2d<float, long>(float*)
void at::native::tensor_kernel_scan_innermost_dim<float, std::plus<float> >(float*)
void at::native::sbtopk::gatherTopK<float, unsigned int, 1, false>(int)
void at::native::mbtopk::radixFindKthValues<float, unsigned int, unsigned int, 4>(int)
void at::native::mbtopk::computeBlockwiseWithinKthCounts<unsigned int>(unsigned int*)
void at::native::mbtopk::gatherTopK<float, unsigned int, 1>(int)
void at::native::bitonicSortKVInPlace<2, -1, 16, 16, long, long, at::native::LTOp<long, true>, unsigned int>(int)
void at::native::radixSortKVInPlace<2, -1, 32, 4, long, long, unsigned int>(int)
void at::native::(anonymous namespace)::sort_postprocess_kernel<long, long>(long const*)
void at_cuda_detail::cub::DeviceRadixSortOnesweepKernel<at_cuda_detail::cub::DeviceRadixSortPolicy<long, at::cuda::cub::detail::OpaqueType<8>, unsigned long long>::Policy900, false, long>(int)
void at_cuda_detail::cub::DeviceSegmentedRadixSortKernel<int>(int)
void cub::CUB_200200_900_NS::DeviceScanKernel<cub::CUB_200200_900_NS::AgentScanPolicy<128, 15, int>, int*>(int)
void cub::CUB_200802_NS::detail::scan::DeviceScanInitKernel<int>(int)
void cub::CUB_300000_SM_900::detail::reduce::DeviceReduceSingleTileKernel<int, at::native::NonZeroOp<bool>*>(int)
void cub::DeviceReduceKernel<cub::DeviceReducePolicy<int, int, int, cub::Sum>::Policy600, cub::TransformInputIterator<bool, at::native::(anonymous namespace)::NonZeroOp<bool>, bool*, long> >(int)
void cub::DeviceSegmentedReduceKernel<int>(int)
_ZN7rocprim17ROCPRIM_304000_NS6detail17trampoline_kernelINS0_14default_configENS1_22reduce_config_selectorIN6thrust5tupleIblEEEEZNS1_11reduce_implILb1ES3_EEvvEUlT_E_NS1_11comp_targetIiEEEEvT1_
_ZN7rocprim17ROCPRIM_400000_NS6detail17trampoline_kernelINS0_14default_configENS1_26radix_sort_onesweep_configINS0_7default14radix_sort_cfgEEEEEvT_
_ZN7rocprim17ROCPRIM_400000_NS6detail17trampoline_kernelINS0_14default_configENS1_20scan_config_selectorIiEEEEvT_
void thrust::cuda_cub::core::_kernel_agent<thrust::cuda_cub::__reduce::ReduceAgent<thrust::zip_iterator<int>, int*, int, int>, int>(int)
void splitKreduce_kernel<32, 16, int, __nv_bfloat16, __nv_bfloat16, float, __nv_bfloat16, true, false, false>(cublasSplitKParams<float>)
void cutlass::Kernel<cutlass::reduction::kernel::ReduceSplitK<cutlass::MatrixShape<4, 128>, int> >(int)
void dot_kernel<float, 128, 0, cublasDotParams<cublasGemvTensor<float const>, cublasGemvTensorStridedBatched<float> > >(int)
void reduce_1Block_kernel<float, 128, 7, cublasGemvTensorStridedBatched<float>, cublasGemvTensorStridedBatched<float> >(int)
void asum_kernel<int, float, float, float, 0>(int)
void nrm2_kernel<float, float, float, 1, 0, 128, 0>(int)
triton_red_fused__softmax_embedding_mm_0
triton_per_fused_native_layer_norm_gelu_index_4
triton_spl_fused_cumsum_1
nvfuser_reduction_f0_c1_r0_g0
void vllm::moe::topkGatingSoftmax<4, 64, 4, 16, 64, int, float>(float const*)
void vllm::moe::grouped_topk_fused_kernel<float, int>(float*)
void at::native::kernelHistogram1D<long, long, 1, 2, -1>(int)
void multi_tensor_apply_kernel<TensorListMetadata<1>, L2NormFunctor<c10::BFloat16>, float*, float*, bool, int>(long)
void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous namespace)::TensorListMetadata<1>, at::native::LpNormFunctor<float, (at::native::NormType)1, float, 1, 1, 0>, float*, int>(int)
void at::native::lpnorm_cleanup<float, (at::native::NormType)1, float, float>(int)
void selective_scan_fwd_kernel<Selective_Scan_fwd_kernel_traits<128, 16, 1, false, true, true, true, c10::BFloat16, float> >(SSMParamsBase)
_chunk_scan_fwd_kernel
_state_passing_fwd_kernel
_selective_scan_update_kernel
void flashinfer::sampling::TopKTopPSamplingFromProbKernel<1024u>(float*)
void flashinfer::sampling::RadixTopKMaskLogitsKernel<int>(int)
void at::native::(anonymous namespace)::weight_norm_fwd_first_dim_kernel<float, float>(float*)
l2norm_fwd_kernel
void at::native::(anonymous namespace)::ctc_loss_log_alpha_gpu_kernel<float, long>(float*)
reduce_segments
void reduce_add_kernel<float>(float*)
void at::native::(anonymous namespace)::cumprod_scan<float>(int)
_compute_mean_var_kernel
cudnn::reduced_divisor_reduce_tensor
void cudnn::ops::reduce_1d_kernel<float>(int)
void at::native::compute_mode<float, 2048u>(float const*)
void apex::welford_kernel<float, float, float>(float const*)
void cudnn::ops::softmax_fw_kernel<2, float>(int)
void cudnn::bn_fw_inf_1C11_kernel_NCHW<float, float, true, 1>(float)
void bn_bw_1C11_kernel_new<float, float, float2, 512, true, 1>(float)
void cudnn::bn_bw_1C11_kernel_new<float>(float)
void at::native::spatial_softmax<float>(int)
void at::native::batch_norm_backward_elemt_channels_last_kernel<4, float>(int)
void at::native::(anonymous namespace)::host_softmax<float>(int)
_kernel_rms_norm
cross_entropy_loss_fwd_kernel
_chunked_cross_entropy_forward
cross_entropy_fwd_kernel
online_softmax_kernel
_gemma_rmsnorm
_layer_norm_fwd_quant
layernorm_fwd_kernel
_topk_kernel
gumbel_max_sample_argmax
void vllm::moe::topkGating<8, 64>(int)
void sgl::grouped_topk<int>(int)
void moe_fused_gate_kernel<float, 8>(int)
void aiter::topk_softmax<int>(int)
void at::native::reduce_1d<float>(int)
void at::native::tensor_kernel_scan_outer_dim<float>(int)
void at::native::(anonymous namespace)::cdist_kernel_cuda_impl<float>(int)
cuda_max_pool
cublasLt::bgrad_reduce
""",
    "elementwise": r"""
void at::native::vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::masked_fill_kernel(at::TensorIterator&)::{lambda(float, bool)#1}, at::detail::Array<char*, 3> >(int)
void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::(anonymous namespace)::masked_fill_kernel(at::TensorIterator&, c10::Scalar const&)::{lambda()#1}> >(int, int)
void at::native::(anonymous namespace)::distribution_elementwise_grid_stride_kernel<float, 4, at::native::templates::cuda::normal_and_transform<float, float, 4ul, at::CUDAGeneratorImpl*, at::native::templates::cuda::normal_kernel<at::CUDAGeneratorImpl*> > >(long)
void at::native::(anonymous namespace)::fused_dropout_kernel_vec<c10::BFloat16, float, unsigned int, 1, 8, bool>(int)
void at::native::vectorized_elementwise_kernel<4, at::native::reciprocal_kernel_cuda(at::TensorIteratorBase&)::{lambda()#1}, std::array<char*, 2ul> >(int)
void at::native::legacy::elementwise_kernel<128, 4, at::native::gpu_kernel_impl<at::native::AddFunctor<float> > >(int)
void at::native::modern::elementwise_kernel<at::native::add_kernel_cuda(at::TensorIterator&, c10::Scalar)::{lambda()#1}, at::detail::Array<char*, 3> >(int)
void at::native::(anonymous namespace)::CatArrayBatchedCopy_aligned16_contig<at::native::(anonymous namespace)::OpaqueType<4u>, unsigned int, 1, 128, 1>(int)
void at::native::(anonymous namespace)::CatArrayBatchedCopy_vectorized<at::native::(anonymous namespace)::OpaqueType<2u>, unsigned int, 2, 64, 64, 16, 8>(int)
void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous namespace)::FusedOptimizerTensorListMetadata<4>, at::native::(anonymous namespace)::FusedAdamMathFunctor<float, 4, (at::native::ADAM_MODE)1, false> >(int)
void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous namespace)::TensorListMetadata<3>, at::native::(anonymous namespace)::PointwiseOpListFunctor<float, 3>, std::multiplies<float> >(int)
void multi_tensor_apply_kernel<TensorListMetadata<4>, LAMBStage1Functor<float, float, float>, float*>(long)
void multi_tensor_apply_kernel<TensorListMetadata<2>, ScaleFunctor<float, c10::Half>, float>(long)
triton_poi_fused_embedding_mm_sum_index_put_0
triton_poi_fused_convolution_native_batch_norm_relu_12
triton_for_fused_0
triton__0d1d2de
nvfuser_pointwise_f0_c1_r0_g0
void cudnn::ops::nhwcToNchwKernel<float, float, float, true, false, (cudnnKernelDataType_t)2>(int)
void cudnn::engines_precompiled::nchwToNhwcKernel<__half, __half, float, false, true, (cudnnKernelDataType_t)0>(int)
void nchwToNhwcKernel<__half, __half, float, false, true>(int)
void nhwcAddPaddingKernel<__half, __half, float, true, (cudnnKernelDataType_t)0>(int)
cudnn::ops::convertTensor_kernel
void cudnn::ops::scalePackedTensor_kernel<float, float>(long, float*, float)
void tensorTransformGeneric<__half, __half, float, true, false, false, (cudnnKernelDataType_t)2>(int)
void op_tensor_kernel_alpha2_zero<int, float, float, float, 256, 1, 1, 4, 2>(int)
void OpTensorKernel<float>(int)
Op2dTensorGeneric
Op1dTensorGeneric
OpTensorFwdBias
SubTensorOpWithTransform2d
batched_transpose_64x32_dword
void transpose_readWrite_alignment_kernel<float, float, 1, false, 6, 5, 3>(int)
void scal_kernel<float, float, 1, true, 6, 5, 5, 3>(int)
void axpy_kernel_val<float, float>(cublasAxpyParamsVal<float, float, float>)
void scal_kernel_val<float, float>(cublasScalParamsVal<float, float>)
void vllm::act_and_mul_kernel<c10::BFloat16, &(c10::BFloat16 vllm::silu_kernel<c10::BFloat16>(c10::BFloat16 const&)), true>(c10::BFloat16*, c10::BFloat16 const*, int)
void flashinfer::activation::act_and_mul_kernel<__nv_bfloat16, &(silu(float const&))>(__nv_bfloat16*)
_swiglu_fwd_kernel
_silu_and_mul_kernel
void vllm::rotary_embedding_kernel<c10::Half, true>(long const*)
_rotary_kernel
rotary_kernel
_triton_rope
void flashinfer::BatchQKApplyRotaryPosIdsCosSinCacheHeadParallelismKernel<false, 128u>(int)
void fused_rope_forward_kernel<float>(int)
void vllm::dynamic_per_token_scaled_fp8_quant_kernel<c10::BFloat16, c10::Float8_e4m3fn>(int)
void vllm::scaled_fp8_quant_kernel<c10::BFloat16, c10::Float8_e4m3fn>(int)
_per_token_group_quant_fp8
_per_token_group_quant_8bit_colmajor
void per_token_group_quant_8bit_kernel<c10::BFloat16, c10::Float8_e4m3fn, true, true>(int)
void vllm::cvt_fp16_to_fp4<__nv_bfloat16, false>(int)
void kDequantizeBlockwise<__nv_bfloat16, 512, 64, 8, 2>(float*)
void kQuantizeBlockwise<__half, 4096, 4, 0, 0>(float*)
void kOptimizer32bit2State<float, 0>(float*)
void kOptimizerStatic8bit2StateBlockwise<float, 0, 256, 1>(float*)
awq_dequantize_kernel
void vllm::awq::dequantize_weights(int*, __half*)
void marlin::gptq_marlin_repack_kernel<256, 8, false>(unsigned int const*)
void transformer_engine::cast_transpose_general_kernel<false, float>(int)
void transformer_engine::detail::cast_transpose_fused_kernel_notaligned<true>(int)
void transformer_engine::unary_kernel<8, true, float, transformer_engine::Empty>(int)
_ZN5aiter37dynamic_per_group_scaled_quant_kernelIDF16bEEvv
_ZN5aiter21scaled_act_mul_kernelIDF16bEEvv
void deepspeed::adam_kernel<float>(float*)
void fused_bias_residual<__half>(__half*)
void fused_bias_gelu<__half>(__half*, __half const*, int, int)
void fused_residual_add<__half>(__half*)
void quantize_kernel<__half, 8>(__half*)
_cast_kernel_fp8
_seeded_dropout
add_kernel
vector_add_kernel
void at::native::(anonymous namespace)::upsample_bilinear2d_nhwc_out_frame<float, float>(int)
void at::native::(anonymous namespace)::upsample_nearest2d_backward_out_frame<float, float>(int)
void at::native::(anonymous namespace)::reflection_pad2d_out_kernel<float>(float const*)
void at::native::triu_tril_kernel<bool, int, true, 16, false>(int)
void at::native::(anonymous namespace)::flip_cuda_kernel<float>(int)
void at::native::roll_cuda_kernel<float>(float const*)
void LSTM_elementWise_fp<float, float, float, (cudnnRNNMode_t)2>(int)
void at::native::(anonymous namespace)::kernel::lstm_cell_forward<float, float, int, 1>(int)
void cub::CUB_200802_SM_900::detail::transform::transform_kernel<int>(int)
void cub::CUB_300000_SM_900::detail::for_each::static_kernel<cub::policy_hub_t<int>, long, thrust::cuda_cub::__tabulate::functor<int*, thrust::system::detail::generic::detail::compute_sequence_value<int>, long> >(int)
void thrust::cuda_cub::core::_kernel_agent<thrust::cuda_cub::__parallel_for::ParallelForAgent<thrust::cuda_cub::__uninitialized_fill::functor<thrust::device_ptr<float>, float>, unsigned long>, unsigned long>(int)
__amd_rocclr_fillBufferAligned
__amd_rocclr_copyBuffer
void apply_repetition_penalties_kernel<float>(float*)
void (anonymous namespace)::elementwise_kernel_with_index<long, at::native::arange_cuda_out(c10::Scalar const&)::{lambda(long)#1}>(int)
void tensorrt_llm::kernels::doActivationKernel<__nv_bfloat16, float>(float*)
void moe::dev::activation::activationKernel<moe::dev::activation::KernelParams<cutlass::bfloat16_t> >(int)
void at::native::(anonymous namespace)::fused_adamw_kernel<float>(float*)
_adamw_step_kernel
void at::native::(anonymous namespace)::split_with_sizes_copy_out_contiguous_no_cast_kernel(char**)
void at::native::(anonymous namespace)::chunk_cat_cuda_kernel<float, c10::BFloat16>(float**)
void at::native::vectorized_elementwise_kernel<4, at::native::batch_norm_elementwise_backward_train(int)::{lambda()#1}, at::detail::Array<char*,2> >(int)
void CatArrayBatchedCopy<float, unsigned int, 2, 128, 1>(float*)
void at::native::unrolled_elementwise_kernel<at::native::(anonymous namespace)::where_kernel_impl(int)::{lambda()#1}, int>(int)
void at::native::vectorized_elementwise_kernel<4, at::native::normal_kernel(int)::{lambda()#1}, int>(int)
void at::native::(anonymous namespace)::distribution_nullary_kernel<float>(int)
void (anonymous namespace)::philox_kernel<float>(int)
void gen_sequenced<curandStateXORWOW, float2, normal_args_st, &(float2 curand_normal_scaled2)>(int)
void fbgemm_gpu::_float_to_fused8bitrowwise_cuda_kernel<float>(int)
void fbgemm_gpu::_FP8rowwise_to_float_cuda_kernel<float>(int)
void fbgemm_gpu::quantize_float_to_fp8rowwise_kernel<float>(int)
_kernel_quantize_fp8_row
quantize_fp8_blockwise_kernel
_qk_rope_kernel
apply_rotary_pos_emb_kernel
kn_rotary_embedding
kn_entry_2c_sbhd_cached_rope
_act_mul_and_mxfp4_quant_kernel
_silu_mul_fp8_quant_deep_gemm
silu_mul_quant_kernel
dynamic_mxfp4_quant_kernel
_swiglu_forward_kernel
_geglu_tanh_forward_kernel
Liger_swiglu_backward_kernel
_rope_fwd_kernel
liger_element_mul_kernel
kernelPointwiseApply2<CopyOp<float, float>, float>
void kernelPointwiseApply3<TensorAddCMulOp<float>, float>(int)
void dropout_kernel<float>(int)
void adam_update
multi_tensor_adam
_zero_kernel
_to_fp8_kernel
triton_poi_fused_cat_3
""",
    "indexing": r"""
void at::native::(anonymous namespace)::indexSelectSmallIndex<float, long, unsigned int, 2, 2, -2>(int)
void at::native::(anonymous namespace)::embedding_backward_feature_kernel<c10::BFloat16, float, long>(long const*)
void at::native::(anonymous namespace)::compute_grad_weight<float, long>(long const*)
void at::native::(anonymous namespace)::sum_and_scatter<float, long>(long const*)
void at::native::(anonymous namespace)::krn_partials_per_segment<long>(long*)
void at::native::(anonymous namespace)::EmbeddingBag_updateOutputKernel_sum_mean<float, long>(long const*)
void at::native::indexing_backward_kernel<float, 4>(long const*)
void at::native::indexing_backward_kernel_stride_1<float, true>(long const*)
void at::native::(anonymous namespace)::indexFuncSmallIndex<float, long, unsigned int, 2, 2, -2, at::native::(anonymous namespace)::ReduceAdd>(int)
void at::native::index_elementwise_kernel<128, 4, at::native::gpu_index_kernel<at::native::index_put_kernel_impl<at::native::OpaqueType<2> >(at::TensorIterator&)::{lambda()#1}>(at::TensorIteratorBase&)::{lambda(int)#1}>(long)
void at::native::_scatter_gather_elementwise_kernel<256, 4, at::native::_cuda_scatter_fill_internal_kernel<true, float> >(int)
void at::native::write_indices<int>(long*, int)
void at::native::(anonymous namespace)::compute_cuda_kernel<long>(long const*)::repeat_interleave
void at::native::vectorized_gather_kernel<16, int>(char*, char*, int*, int, long, long, long, long, bool)
void at_cuda_detail::cub::DeviceSelectSweepKernel<int>(int)
void cub::DeviceSelectSweepKernel<cub::DispatchSelectIf<cub::CountingInputIterator<long, long>, cub::TransformInputIterator<bool, at::native::NonZeroOp<bool>, bool*>, long*, int*, cub::NullType, cub::NullType, int, false>::PtxSelectIfPolicyT>(int)
void vllm::reshape_and_cache_kernel<unsigned short, unsigned short, (vllm::Fp8KVCacheDataType)0>(unsigned short const*)
void vllm::concat_and_cache_mla_kernel<__nv_bfloat16, __nv_bfloat16, (vllm::Fp8KVCacheDataType)0>(int)
void vllm::copy_blocks_kernel<c10::BFloat16>(long*)
void flashinfer::AppendPagedKVCacheKernel<128u, 16u, (flashinfer::QKVLayout)0>(int)
set_mla_kv_buffer_kernel
store_kv_cache_kernel
void store_kvcache<1024, 2>(int)
void aiter::reshape_and_cache_with_per_token_quant_kernel<int>(int)
create_flashinfer_kv_indices_triton
get_num_kv_splits_triton
_convert_req_index_to_global_index_kernel
compute_slot_mapping_kernel
void flash::prepare_varlen_num_blocks_kernel<1, true>(int)
void get_mla_metadata_kernel(GetDecodingMetadataParams)
write_req_to_token_pool_triton
compute_position_kernel
void vllm::moe::moe_align_block_size_kernel<int>(int*)
void vllm::moe::count_and_sort_expert_tokens_kernel<int>(int const*)
moe_align_block_size_stage1
void moe_permute_kernel<float>(int)
deepgemm_compute_src2dst_triton_kernel
_fwd_kernel_ep_scatter_1
_fwd_kernel_ep_gather
compute_seg_indptr_triton_kernel_experts
void tensorrt_llm::kernels::cutlass_kernels::expandInputRowsKernel<__nv_bfloat16, __nv_bfloat16>(int)
void tensorrt_llm::kernels::cutlass_kernels::finalizeMoeRoutingKernel<__nv_bfloat16>(int)
void tensorrt_llm::kernels::cutlass_kernels::computeExpertFirstTokenOffsetKernel<int>(int)
void tensorrt_llm::kernels::cutlass_kernels::blockExpertPrefixSumKernel<int>(int)
_ZN7ck_tile6kentryILi2ENS_16MoeSortingKernelIiEEJEEEvDpT1_
void aiter::moe_align_block_size_kernel_ex<int>(int)
_compute_expert_offsets_routing
void fbgemm_gpu::split_embedding_nobag_codegen_forward_unweighted_small_kernel<float>(int)
void fbgemm_gpu::permute_1D_data_kernel<false, int>(int)
void fbgemm_gpu::_bucketize_sparse_features_cuda_kernel1<int>(int)
split_embedding_backward_codegen_adam_unweighted_kernel_cta_per_row_1
void fbgemm_gpu::batch_index_select_dim0_codegen_forward_kernel<float>(int)
void int_nbit_split_embedding_codegen_forward_unweighted_kernel_small_L<int>(int)
void fbgemm_gpu::jagged_index_select_2d_kernel<long, int, float>(int)
void fbgemm_gpu::generate_vbe_metadata_foreach_sample_kernel<int>(int)
void fbgemm_gpu::lru_cache_insert_kernel<float>(int)
void fbgemm_gpu::linearize_cache_indices_kernel<long>(int)
void get_group_gemm_starts<cutlass::float_e4m3_t, cutlass::bfloat16_t, float>(int*)
void at::native::(anonymous namespace)::grid_sampler_2d_kernel<float, int>(int)
void at::native::(anonymous namespace)::masked_scatter_size_check<long>(long*)
_embedding_kernel
_gather_kernel
_index_select_kernel
void at::native::embedding_dense_backward_kernel<float>(int)
gather_kv_indices_kernel
void at::native::index_fill_kernel<float>(int)
void at::native::(anonymous namespace)::cunn_scatter_kernel<float>(int)
void (anonymous namespace)::indexAddSmallIndex<float>(int)
void kernelPointwiseApply2<TensorTakeOp<float>, float>(int)
void at::native::(anonymous namespace)::EmbeddingBag_accGradParametersKernel_max<float>(int)
void embedding_bag_nbits_rowwise_offsets_kernel(int)
void split_embedding_codegen_forward_pooled_kernel<float>(int)
_jagged_dense_elementwise_add_kernel
void fbgemm_gpu::group_index_select_or_add_2d_kernel<long, float>(int)
void fbgemm_gpu::keyed_jagged_index_select_dim1_kernel<float>(int)
void fbgemm_gpu::segment_sum_csr_cuda_kernel<float>(int)
void vllm::indexer_k_quant_and_cache_kernel<float>(int)
void vllm::cp_gather_indexer_k_quant_cache_kernel<4>(int)
void vllm::gather_and_maybe_dequant_cache<float>(int)
_permute_kernel_moe_tokens
_unpermute_kernel
_moe_permute_kernel
_sort_chunks_by_map_kernel
_row_id_map_pass_1_kernel
void aiter::opus_moe_sorting_entry<int>(int)
""",
    "communication": r"""
ncclKernel_AllReduce_RING_LL_Sum_half(ncclWorkElem)
ncclAllReduceRingLLKernel_sum_f32(ncclColl)
ncclKernel_Broadcast_RING_LL_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)
ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)
ncclDevKernel_AllReduce_Sum_f16_TREE_LL(ncclDevKernelArgsStorage<4096ul>)
ncclDevKernel_Reduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)
ncclDevKernel_Generic_4(ncclDevKernelArgsStorage<4096ul>)
ncclSymkDevKernel_AllReduce_AGxLLMC_R_sum_bf16(ncclSymDevArgs)
ncclSymDevKernel_AllGather_LL(ncclSymDevArgs)
mscclKernel_Sum_float_LL_false(ncclDevComm*)
void vllm::cross_device_reduce_1stage<__half, 8>(vllm::RankData*, vllm::RankSignals, vllm::Signal*, __half*, int, int)
void vllm::cross_device_reduce_2stage<__nv_bfloat16, 8>(int)
void aiter::cross_device_reduce_2stage_write_mode<__hip_bfloat16, 8>(int)
void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<(flashinfer::AllReduceFusionPattern)1, __nv_bfloat16, 8>(int)
void tensorrt_llm::kernels::twoShotAllReduceKernel<__nv_bfloat16, 8, true>(int)
void c10d::symmetric_memory::one_shot_all_reduce_kernel<c10::BFloat16, 16, 8>(int)
void (anonymous namespace)::multimem_one_shot_all_reduce_kernel<c10::BFloat16, 16>(int)
void deep_ep::intranode::combine<__nv_bfloat16, 8, 768, 4096>(__nv_bfloat16*)
void deep_ep::internode_ll::dispatch<true, false, 7168>(void*)
void deep_ep::intranode::notify_dispatch<8>(int const*)
void deep_ep::intranode::cached_notify_combine<8>(void**)
nvshmemi_barrier_all_kernel
void mscclpp::allreduce_adapter<float>(int)
void quickreduce::allreduce_prototype_twoshot<quickreduce::AllReduceTwoshot<__half> >(int)
kuserbuffers_pushsend
void userbuffers_fp16_sum_inplace_gpu_rw_ag<8>(int)
void nvshmem_alltoall_kernel<float>(int)
all_gather_push_kernel
rcclGenericKernel
void trtllm::fusedMoeCommKernel<int>(int)
void mori::moe::EpCombineIntraNodeKernel<int>(int)
ncclDevFunc_AllToAll
""",
    "other": r"""
void regular_fft<256u, EPT<8u>, 32u, 32u, (padding_t)1, (twiddle_t)0, (loadstore_modifier_t)2, (layout_t)1, unsigned int, float>(kernel_arguments_t<unsigned int>)
void vector_fft<128u, EPT<16u>, 8u, 4u>(kernel_arguments_t<unsigned int>)
void getrf_pivot<float>(int)
my_kernel
kernel0
foo_bar_baz
void spRadix0064C::kernel3Mem<unsigned int, float, (fftDirection_t)1>(int)
bluestein_fft
cusolver_potrf_alg2_set_info
CudaCodeGen::kernel1
""",
}
CASES = [(family, name) for family, text in NAMES.items() for name in text.strip().splitlines()]


@pytest.mark.parametrize(("family", "name"), CASES, ids=[f"{family}-{i}" for i, (family, _) in enumerate(CASES)])
def test_family_of_library_kernels(family: str, name: str) -> None:
    label = TAXONOMY.classify(name)
    assert label.family == family, f"{label} for {short_name(name)}"


def test_labelled_kernels() -> None:
    """Hand labels, where they are at hand: the name alone has to do, the operator must not make it worse."""
    if not LABELS.exists():
        pytest.skip("no labels here")
    with LABELS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    for with_operator in (False, True):
        wrong = [
            row["name"]
            for row in rows
            if TAXONOMY.classify(row["name"], (row["launching_op"] or None) if with_operator else None).family
            not in {row["family"], *row["also"].split(",")}
        ]
        assert len(wrong) <= len(rows) // 100, wrong


RULES = [rule for rule in TAXONOMY.rules if not rule.refines]


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_example_classifies_to_its_rule(rule: Rule) -> None:
    """Also shows that no rule is unreachable."""
    assert TAXONOMY.classify(rule.example).rule == rule.id


REFINING = {
    "operator-conv-gemm": "aten::cudnn_convolution",
    "operator-triton-reduction": "triton_red_fused_sum_0",
    "operator-triton-pointwise": "triton_poi_fused_add_0",
    "operator-compaction": "aten::_unique2",
    "operator-attention": "aten::_scaled_dot_product_flash_attention",
    "operator-convolution": "aten::cudnn_convolution",
    "operator-gemm": "aten::mm",
    "operator-communication": "record_param_comms",
    "operator-indexing": "aten::index",
    "operator-reduction": "aten::sum",
    "operator-elementwise": "aten::add",
}


@pytest.mark.parametrize("rule", [r for r in TAXONOMY.rules if r.refines], ids=lambda rule: rule.id)
def test_operator_breaks_ties(rule: Rule) -> None:
    assert TAXONOMY.classify(rule.example, REFINING[rule.id]).rule == rule.id
    assert TAXONOMY.classify(rule.example).rule in {"none", *rule.refines}


OWN = {
    "gemm": "embed_norm_qkv norm_qkv attention_projection norm_fc1_gelu fc2_residual norm_lm_head"
    " attention_block embed_attention_block mlp_block",
    "attention": "attention flash_attention",
    "reduction": "argmax embed_norm bias_residual_norm",
    "elementwise": "bias_gelu",
}


@pytest.mark.parametrize("suffix", ["", "_int8"])
@pytest.mark.parametrize(("family", "name"), [(family, name) for family, names in OWN.items() for name in names.split()])
def test_our_own_kernels_count_where_their_bytes_are(family: str, name: str, suffix: str) -> None:
    assert TAXONOMY.classify(f"gpt2_{name}{suffix}").family == family


@pytest.mark.parametrize(
    "name", ["gpt2_softmax", "gpt2_norm", "gpt2_norm_qkv_bias_grad", "not_gpt2_mlp_block", "gpt2_mlp_blocks"]
)
def test_names_like_our_own_are_judged_by_their_words(name: str) -> None:
    assert not TAXONOMY.classify(name).rule.startswith("gpt2")
    assert TAXONOMY.classify(name) == TAXONOMY.classify(name.replace("gpt2", "gpt3"))


def test_operator_does_not_overrule_a_clear_name() -> None:
    name = "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>, int>(int)"
    assert TAXONOMY.classify(name, "aten::mm") == TAXONOMY.classify(name)


def test_rule_ids_are_unique() -> None:
    assert len({rule.id for rule in TAXONOMY.rules}) == len(TAXONOMY.rules)


def test_hints_lose_no_match() -> None:
    """The shortlist is only a short cut: trying every rule in order gives the same answer."""
    for _, name in CASES:
        found = outline(name)
        views = {"name": words(found.identifier), "path": words(found.path), "inside": words(found.inside)}
        expected = next((rule.label for rule in RULES if rule.matches(views, "")), UNKNOWN)
        assert TAXONOMY.classify(name) == expected


def test_arguments_are_never_matched() -> None:
    assert TAXONOMY.classify("void mystery<int>(cublasGemvTensor<float>, IndexPutParams, LayerNormArgs)") == UNKNOWN


PIECES = st.sampled_from(["<", ">", "(", ")", "[", "]", "{", "}", "::", " ", ", ", "_ZN", "3foo", "I", "E", "L", "operator()",
                          "gemm", "Kernel", "(anonymous namespace)", "->", "norm", "12", "9999999999", "J", "Ul"])  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)), st.none() | st.text())
def test_any_text_gets_the_same_label_twice(name: str, operator: str | None) -> None:
    label = TAXONOMY.classify(name, operator)
    assert label.family in {family.value for family in Family}
    assert 0 <= label.confidence <= 1
    assert Taxonomy(TAXONOMY.rules).classify(name, operator) == label
    assert isinstance(short_name(name), str)


@examples(30)
@given(st.lists(PIECES, min_size=1, max_size=6).map("".join), st.booleans())
def test_long_names_are_quick(piece: str, mangled: bool) -> None:
    name = ("_ZN" if mangled else "") + piece * (100_000 // len(piece))
    start = time.perf_counter()
    TAXONOMY.classify(name)
    assert time.perf_counter() - start < 2


USER_RULE = """
[[rule]]
id = "mine"
pattern = 'my kernel'
family = "gemm"
kind = "mine"
example = "my_kernel"
"""


USER_PART = """
[[part]]
pattern = 'my mixer'
path = "decoder/mixer"
example = "my_mixer"
"""


def test_user_rules_go_first(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(USER_RULE.replace("'my kernel'", "'rms norm|my kernel'"), encoding="utf-8")
    taxonomy = Taxonomy.load(path)
    assert taxonomy.classify("my_kernel").rule == "mine"
    assert taxonomy.classify("rms_norm_kernel").rule == "mine"
    assert taxonomy.classify("nvjet_tst_64x64") == TAXONOMY.classify("nvjet_tst_64x64")


def test_a_users_parts_go_first_and_need_no_rule(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(USER_PART.replace("'my mixer'", "'my mixer|mlp block'"), encoding="utf-8")
    parts = Taxonomy.load(path).parts

    assert [part.path for part in parts.of("void mine::my_mixer<float>(int)")] == [("decoder", "mixer")]
    assert [part.path[-1] for part in parts.of("gpt2_mlp_block")] == ["mixer", "mlp"]
    assert Taxonomy.load(path).rules == TAXONOMY.rules


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[rule]", "not valid TOML"),
        ("rules = 3", "no list of rules"),
        ("", "no list of rules"),
        ("part = [3]", "a part is not a table"),
        (USER_PART.replace("path =", "place ="), "lacks a text for path"),
        (USER_PART + "begins = 3", "lacks a text for begins"),
        (USER_PART + "kind = 'x'", "unknown keys: kind"),
        (USER_PART.replace("decoder/mixer", "decoder//mixer"), "no path of layers"),
        (USER_PART.replace("decoder/mixer", "decoder/(rest)"), "no path of layers"),
        (USER_PART + "begins = 'block'", "does not lie there"),
        (USER_PART + "begins = 'decoder'\ninput = 'mixer'", "does not lie there"),
        (USER_PART.replace("'my mixer'", "'('"), "not a regular expression"),
        (USER_PART.replace("'my mixer'", "'my_mixer'"), "an underscore"),
        (USER_PART.replace("'my mixer'", "'your mixer'"), "does not match its own example"),
        ("rule = [3]", "not a table"),
        (USER_RULE + "colour = 3", "unknown keys: colour"),
        (USER_RULE.replace("kind", "sort"), "lacks a text for kind"),
        (USER_RULE.replace('"gemm"', '"gem"'), "no such family"),
        (USER_RULE.replace("'my kernel'", "'my ('"), "not a regular expression"),
        (USER_RULE.replace("'my kernel'", "'MyKernel'"), "capital"),
        (USER_RULE.replace("'my kernel'", "'your kernel'"), "does not match its own example"),
        (USER_RULE + "confidence = 2", "confidence"),
        (USER_RULE + "confidence = true", "confidence"),
        (USER_RULE + 'refines = "gemm"', "refines"),
        (USER_RULE + "look = 'args'", "cannot look at"),
        (USER_RULE + "look = []", "cannot look at"),
        (USER_RULE + "outer = 3", "outer"),
    ],
)
def test_a_broken_user_file_is_explained(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TracekitError, match=complaint) as caught:
        Taxonomy.load(path)
    assert caught.value.where == path
    assert caught.value.mend


def test_a_user_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TracekitError, match="cannot be read"):
        Taxonomy.load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TracekitError, match="not UTF-8"):
        Taxonomy.load(tmp_path / "binary.toml")
