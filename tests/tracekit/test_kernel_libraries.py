"""Are the kernels of the libraries that traces are full of recognised? The names are those of the libraries' public sources.

Each is written as a profiler shows it: demangled and with template arguments if it is CUDA, bare if it is Triton.
"""

from __future__ import annotations

import pytest

from tracekit.taxonomy import Taxonomy

TAXONOMY = Taxonomy.default()

# library -> lines of family, kind ("-" if any will do) and name
LIBRARIES = {
    "FlashAttention": r"""
attention flash void flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, false, false, cutlass::bfloat16_t>, false, true, false, false, true, true, false, false>(Flash_fwd_params)
attention flash void flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits<64, 128, 128, 8, 4, 4, 4, true, false, cutlass::half_t>, false, true, false, false, true, true, false>(Flash_bwd_params)
attention flash void flash_bwd_dot_do_o_kernel<true, Flash_bwd_kernel_traits<64, 128, 128, 8, 4, 4, 4, true, false, cutlass::half_t> >(Flash_bwd_params)
attention flash void flash_bwd_clear_dkvaccum_kernel<Flash_bwd_kernel_traits<64, 128, 128, 8> >(Flash_bwd_params)
attention flash void flash_bwd_convert_dkv_kernel<Flash_bwd_kernel_traits<64, 128, 128, 8> >(Flash_bwd_params)
attention combine void flash::flash_fwd_splitkv_combine_kernel<Flash_fwd_kernel_traits<128, 64, 128, 4>, 4, 1, true>(flash::Flash_fwd_params)
attention - void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnBwdSm90<flash::CollectiveMainloopBwdSm90<2, 2, 2, cute::tuple<cute::C<1> > > > > >(flash::Params)
attention - void cutlass::device_kernel<flash::FlashAttnBwdPostprocessConvertdQ<cute::tuple<cute::C<80>, cute::C<128> >, cutlass::bfloat16_t, float, cutlass::arch::Sm90, 256> >(int)
attention combine void cutlass::device_kernel<flash::FlashAttnFwdCombine<cute::tuple<cute::C<8>, cute::C<128> >, 5, 256, 1, false, true, cutlass::bfloat16_t, float, cutlass::arch::Sm90> >(int)
indexing attention_metadata flash::prepare_varlen_num_blocks_kernel(int, int, int, int const*, int const*)
attention - kernel_cutlass_kernel_flash_attncuteflash_fwd_sm100FlashAttentionForwardSm100_object_at__tensor0000o11101213_tensor0000o11101213_tensor0000o10111213_tensor0000o11101213_None_None_None_None
attention - kernel_cutlass_kernel_flash_attncuteflash_bwd_sm90FlashAttentionBackwardSm90_object_at__tensor0000o1
elementwise rope rotary_kernel
""",
    "SageAttention": r"""
attention - void qk_int_sv_f16_attn_kernel<128u, 64u, 32u, 64u, 128u, (DataType)1, (QuantGranularity)3, (QuantGranularity)3, float, false, __half, (ComputeUnit)1, (MaskMode)0, false, false>(signed char*, signed char*, __half*)
elementwise quantize void QuantInt8Kernel<128u, 128u, 2u, false, true, __nv_bfloat16>(__nv_bfloat16*, __nv_bfloat16*, signed char*, float*)
elementwise - void TransposePadPermuteKernel<128u, 64u, true, __half>(__half*, __half*, unsigned int)
elementwise quantize quant_per_block_int8_kernel
elementwise quantize quant_query_per_thread_int8_kernel
elementwise - void SubMeanKernel<128u, 128u, 1u, __half>(__half*, __half*, __half*)
""",
    "FlashInfer": r"""
attention - void flashinfer::BatchDecodeWithPagedKVCacheKernel<(flashinfer::PosEncodingMode)0, 2u, 4u, 8u, 16u, 8u, flashinfer::DefaultAttention<false, false, false, false> >(flashinfer::Params)
attention combine void flashinfer::PersistentVariableLengthMergeStatesKernel<8u, 16u, 8u, 4u, __nv_bfloat16, __nv_bfloat16, int>(__nv_bfloat16*, float*)
reduction rmsnorm void flashinfer::norm::FusedAddRMSNormKernel<8u, __nv_bfloat16>(__nv_bfloat16*, __nv_bfloat16*, __nv_bfloat16*, unsigned int, unsigned int)
reduction topk void flashinfer::sampling::TopPSamplingFromProbKernel<1024u, (cub::BlockScanAlgorithm)1, (cub::BlockReduceAlgorithm)2, 4u, true, float, int>(float*, int*)
reduction - void flashinfer::sampling::TopPRenormProbKernel<1024u, (cub::BlockReduceAlgorithm)2, 4u, float>(float*, float*, float*, float, unsigned int)
reduction topk void flashinfer::sampling::ChainSpeculativeSampling<1024u, (cub::BlockScanAlgorithm)1, (cub::BlockReduceAlgorithm)2, 4u, true, float, int>(float*, int*)
elementwise rope void flashinfer::BatchQKApplyRotaryPosIdsCosSinCacheKernel<false, 128u, 8u, 16u, __nv_bfloat16, long>(__nv_bfloat16*, __nv_bfloat16*)
elementwise activation void flashinfer::activation::act_and_mul_kernel<__nv_bfloat16, &(float silu<float>(float const&))>(__nv_bfloat16*, __nv_bfloat16 const*, int)
communication allreduce void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<(flashinfer::trtllm_allreduce_fusion::AllReduceFusionPattern)1, __nv_bfloat16, 8, true>(int)
reduction rmsnorm kernel_cutlass_kernel_flashinfernormkernelsfused_add_rmsnormFusedAddRMSNormKernel_object_at__tensorptrbf16gmemalign128o409640961_tensorptrbf16gmemalign128o409640961
gemm - kernel_cutlass_kernel_flashinfergemmkernelsdense_blockscaled_gemm_sm100Sm100BlockScaledPersistentDenseGemmKernel_object_
""",
    "xFormers": r"""
gemm - _xformers_tiled_matmul_kernel
indexing - scaled_index_add_fwd_kernel
indexing - scaled_index_add_bwd_kernel
indexing - index_select_cat_fwd_kernel
elementwise rope _rope_padded_kernel
attention - _fwd_kernel_splitK
reduction splitk_reduce _splitK_reduce
elementwise - void xformers::sp24::sparse24_sparsify_both_ways_kernel<xformers::sp24::KernelTypes<cutlass::bfloat16_t>, xformers::sp24::MetadataCutlass, xformers::sp24::LargestValuesGreedy>(int)
attention fmha fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel<cutlass::bfloat16_t, cutlass::arch::Sm80, true, 64, 128, 128, true, true>::Params)
""",
    "AITER": r"""
elementwise rope void aiter::kn_entry_2c_sbhd_cached_indirect_inplace<aiter::OpCachedFwd, (aiter::RotateStyle)0, true, false, std::bfloat16_t, std::bfloat16_t>(std::bfloat16_t*, std::bfloat16_t*)
elementwise rope void aiter::kn_entry_1c_sbhd_uncached<aiter::OpUncachedBwd, (aiter::RotateStyle)0, false, float, float>(float*, float const*)
attention combine void kn_mla_reduce_v1<MlaReduceKernelV1Traits<128, 16, 1>, float, std::bfloat16_t>(MlaReduceKernelV1Params)
indexing attention_metadata kn_get_mla_metadata_v0(int*, int const*, int)
attention combine void kn_fmla_fwd_splictkv_combine<FlashMlaCombineKernelTraits<512, 1, 4>, 32, std::bfloat16_t>(FlashMlaFwdParams)
indexing moe_routing void aiter::mxfp4_moe_sort_kernel<256, 32, 32, 32>(int const*, unsigned char*)
reduction topk void aiter::grouped_topk_kernel<c10::BFloat16, float __vector(4), 1, true, true, false>(c10::BFloat16*, float*)
elementwise quantize void aiter::dynamic_per_group_scaled_quant_kernel<std::bfloat16_t, ck_tile::fp4x2_t, 32>(ck_tile::fp4x2_t*, float*, std::bfloat16_t const*)
gemm - void aiter::mxfp4_moe::gemm2::kernel<655360, 385, 512, 7168, 9, 32, (EpilogPolicy)1>(int)
communication allreduce void aiter::cross_device_reduce_2stage<__hip_bfloat16, 8>(aiter::RankData*, aiter::RankSignals)
gemm - _gemm_a8w8_blockscale_kernel_GROUP_K_128_GROUP_N_128
""",
    "CK": r"""
gemm - void ck::kernel_gemm_xdl_cshuffle_v3<ck::GridwiseGemmMultiD_ABScale_xdl_cshuffle_v3<ck::tensor_layout::gemm::RowMajor, ck::tensor_layout::gemm::ColumnMajor>, true, (ck::InMemoryDataOperationEnum)0, 2>(int)
gemm - void ck::kernel_gemm_xdl_cshuffle_v3_multi_d_blockscale_b_preshuffle<ck::GridwiseGemmMultiD_blockscale_xdl_cshuffle_v3_b_preshuffle<ck::tensor_layout::gemm::RowMajor>, true>(int)
gemm - void ck::kernel_moe_mxgemm_2lds<ck::GridwiseMoeGemmMX_BPreshuffle<ck::tensor_layout::gemm::RowMajor>, true, (ck::InMemoryDataOperationEnum)0>(int)
gemm - void ck::kernel_moe_gemm<ck::GridwiseMoeGemmBlockScale<ck::tensor_layout::gemm::RowMajor, ck::f8_fnuz_t>, true>(int)
gemm - void ck_tile::kentry<1, ck_tile::GroupedGemmKernel<ck_tile::GemmSpatiallyLocalTilePartitioner<ck_tile::TileGemmShape<ck_tile::sequence<256, 256, 64> > > > >(int)
attention - void ck_tile::kentry<256, 1, ck_tile::FmhaBwdDQDKDVKernel<ck_tile::BlockFmhaBwdDQDKDVPipelineKRKTRVR<int> > >(int)
attention - void ck_tile::kentry<2, ck_tile::FmhaBwdConvertQGradKernel<ck_tile::BlockFmhaBwdConvertQGrad<int> > >(int)
convolution - void ck_tile::kentry<ck_tile::gfx11_t, 2, ck_tile::GroupedConvolutionForwardKernel<ck_tile::GroupedConvTraits<2> > >(int)
reduction rmsnorm void ck_tile::kentry<1, ck_tile::Rmsnorm2dFwd<ck_tile::Rmsnorm2dFwdPipelineOnePass<ck_tile::Rmsnorm2dFwdPipelineProblem<int> > > >(int)
indexing moe_routing void ck_tile::kentry<2, ck_tile::MoeSortingMultiPhaseKernel_P0_v2<ck_tile::MoeSortingProblemMp<int, float, int, true> > >(int)
""",
    "FlashMLA": r"""
attention - void sm90::flash_fwd_splitkv_mla_kernel<sm90::Traits<cutlass::bfloat16_t> >(DenseAttnDecodeParams)
attention - void sm90::decode::sparse_fp8::flash_fwd_splitkv_mla_fp8_sparse_kernel<sm90::decode::sparse_fp8::KernelTemplate<(ModelType)0, 128> >(SparseAttnDecodeParams)
attention combine void flash_fwd_mla_combine_kernel<cutlass::bfloat16_t, 512, 8, 32, 256>(CombineParams)
attention - void sm90::fwd::sparse_attn_fwd_kernel<sm90::fwd::KernelTemplate<576, false> >(SparseAttnFwdParams)
indexing attention_metadata get_mla_metadata_kernel(GetDecodingMetadataParams)
""",
    "DeepGEMM": r"""
gemm - void deep_gemm::sm90_fp8_gemm_1d2d_impl<0u, 2112u, 7168u, 1u, 64u, 112u, 128u, 128u, 128u, 5u>(float*, int*, unsigned int)
gemm - void deep_gemm::sm100_fp8_fp4_gemm_1d1d_impl<(cute::UMMA::Major)0, (cute::UMMA::Major)0, 128u, 128u, 0u, 0u, 0u, 240u, 128u>(int*, unsigned int)
gemm - void deep_gemm::sm90_tf32_hc_prenorm_gemm_impl<24u, 16384u, 64u, 32u, 64u, 1u, 128u, 12u, 128u, 128u>(unsigned int, CUtensorMap_st)
elementwise - void deep_gemm::transpose_fp32<512u, 64u>(float const*, float*, unsigned int)
elementwise - void deep_gemm::transpose_and_pack_fp32_into_ue8m0<512u, 128u, 56u>(float*, unsigned int*, unsigned int)
elementwise mask void deep_gemm::smxx_clean_logits<1u, 8192u, 8u>(unsigned int, unsigned int, float*)
attention - void deep_gemm::sm90_fp8_mqa_logits<64u, 128u, false, 128u, 256u>(unsigned int, unsigned int)
attention - void deep_gemm::sm120_fp8_paged_mqa_logits<3u, 64u, 128u, 64u, true>(unsigned int)
indexing attention_metadata void deep_gemm::smxx_paged_mqa_logits_metadata<32u, 256u, 132u>(unsigned int, unsigned int const*)
gemm - void deep_gemm::fp8_wgrad_gemm_kernel<4096u, 7168u, 128u>(unsigned int)
""",
    "DeepEP": r"""
communication alltoall void deep_ep::intranode::dispatch<2, 768, 8192>(int4*, float*, float*, int*)
communication alltoall void deep_ep::internode_ll::dispatch<true, true, 6144>(void*, void*, int*, long*)
communication alltoall void deep_ep::intranode::notify_dispatch<8>(int const*, int*, int const*, int*, int)
communication alltoall void deep_ep::internode::notify_dispatch<false, 4>(int const*, int*, int, int const*)
communication alltoall void deep_ep::intranode::cached_notify_combine<8>(void**, int*, int, int, int, int**, int)
communication alltoall void deep_ep::internode_ll::clean_low_latency_buffer<256>(int*, int, int*, int)
indexing - void deep_ep::layout::get_dispatch_layout<256, 4, 8>(long const*, int*, int*, int*, bool*)
communication alltoall void hybrid_ep::combine_kernel<8, 4096>(hybrid_ep::combine_kernel_param_t<8>)
""",
    "NVSHMEM": r"""
communication - void barrier_on_stream_kernel_threadgroup<(threadgroup_t)2>(int, int)
communication - barrier_on_stream_kernel(int, int, int, long*, long*)
communication - barrier_on_stream_kernel_warp(int, int, int, long*, long*)
communication - nvshmemi_signal_wait_until_on_stream_kernel(unsigned long volatile*, int, unsigned long)
""",
    "Transformer Engine": r"""
reduction rmsnorm void transformer_engine::normalization::rmsnorm_fwd_general_kernel<transformer_engine::normalization::Kernel_traits<__nv_bfloat16, __nv_bfloat16, __nv_bfloat16, float, unsigned int, 8192u> >(int)
reduction rmsnorm void transformer_engine::normalization::rmsnorm_bwd_finalize_general_kernel<__nv_bfloat16, float, 4u, 1u, 16u>(int)
elementwise quantize void transformer_engine::detail::(anonymous namespace)::cast_transpose_general_kernel<4ul, 8ul, float, __nv_bfloat16, __nv_fp8_e4m3>(__nv_bfloat16 const*)
elementwise quantize void transformer_engine::cast_fp8_2D_kernel<false, false, transformer_engine::Empty, float, __nv_bfloat16, __nv_fp8_e4m3>(CUtensorMap_st)
elementwise quantize void transformer_engine::dispatch::mxfp8::quantize_kernel::quantize_mxfp8_kernel<false, false, false, transformer_engine::Empty, __nv_bfloat16, __nv_fp8_e4m3, true>(CUtensorMap_st)
elementwise quantize void transformer_engine::(anonymous namespace)::block_scaled_1d_cast_transpose_kernel<true, float, __nv_bfloat16, __nv_fp8_e4m3>(__nv_bfloat16 const*)
elementwise quantize transformer_engine::delayed_scaling_recipe::amax_and_scale_update_impl::kernel_bulk(float*, transformer_engine::delayed_scaling_recipe::AmaxParams, unsigned long)
elementwise - void transformer_engine::(anonymous namespace)::swizzle_row_scaling_kernel<int4, 128, 4>(void const*, void*, int, int)
elementwise - void transformer_engine::detail::multi_padding_kernel<4, __nv_bfloat16>(transformer_engine::detail::MultiPaddingArgs)
elementwise rope void transformer_engine::fused_rope_forward_kernel<__nv_bfloat16>(__nv_bfloat16 const*, int const*, float const*)
reduction topk void transformer_engine::fused_topk_with_score_function_forward_kernel<__nv_bfloat16, float>(__nv_bfloat16 const*, int, int)
elementwise - transformer_engine::context_parallel::thd_read_half_tensor_kernel(void*, void*, int*, int, int, int)
attention - void transformer_engine::context_parallel::thd_out_correction_kernel<__nv_bfloat16, 1, transformer_engine::context_parallel::LseCorrectionFunctor, false>(__nv_bfloat16*)
reduction loss void transformer_engine::fused_moe_aux_loss_forward_kernel<float, int>(float const*, int const*, int)
""",
    "FBGEMM": r"""
elementwise quantize void fbgemm_gpu::_float_to_fused8bitrowwise_cuda_kernel<float>(float const*, int, int, unsigned char*)
elementwise quantize _kernel_quantize_fp8_row
elementwise quantize _kernel_quantize_fp8_block
indexing embedding_backward void split_embedding_backward_codegen_rowwise_adagrad_unweighted_kernel_cta_per_row_1<float, float, float, float, long, 1ul, 32ul>(int)
indexing embedding void split_embedding_codegen_forward_unweighted_kernel<float, float, float, false, long, 1ul, 16ul>(int)
indexing sparse_permute void fbgemm_gpu::permute_multi_embs_kernel<float, false>(float const**, float**, long const*)
gemm - void fbgemm_gpu::jagged_jagged_bmm_kernel<long, float>(int)
reduction softmax void fbgemm_gpu::jagged_softmax_kernel<128, long, float>(int)
indexing jagged void fbgemm_gpu::jagged_dense_elementwise_dense_output_kernel_<1, int, float, float>(int)
elementwise activation _fbgemm_silu_mul
elementwise quantize _fbgemm_silu_mul_quant
indexing - _fbgemm_gather_scale_dense_tokens
gemm moe_gemm _fbgemm_grouped_gemm
elementwise rope void fbgemm_gpu::rope_xpos_qkv_varseq_prefill_kernel<(fbgemm_gpu::PositionEmbeddingMode)0>(int)
""",
    "bitsandbytes": r"""
elementwise quantize void kQuantizeBlockwise<__nv_bfloat16, 4096, 4, 0, 0>(float*, __nv_bfloat16*, float*, unsigned char*, float*, int, int)
elementwise quantize void kDequantizeBlockwise<__half, 512, 64, 8, 2>(float*, unsigned char*, float*, __half*, int)
gemm quantised_gemm void kgemm_4bit_inference_naive<__nv_bfloat16, 128, 16>(int, int, int, __nv_bfloat16*, unsigned char*, float*)
elementwise quantize void kInt8VectorQuant<__half, 1024, 1>(__half*, signed char*, float*, float, int, int)
elementwise quantize void kdequant_mm_int32_fp16<4, 128, 512>(int*, float*, float*, __half*, float*, float*, int, int, int, int)
elementwise optimizer void kOptimizer32bit2State<float, 1>(float*, float*, float*, float*, float*, float, float)
elementwise optimizer void kOptimizerStatic8bit2StateBlockwise<__half, 0, 256, 1>(__half*, __half*, unsigned char*, unsigned char*)
elementwise optimizer void kPreconditionOptimizer32bit1State<float, 0, 4096, 8>(float*, float*, float*)
gemm - kspmm_coo_very_sparse_naive(int*, int*, int*, int*, int*, __half*, __half*, __half*)
reduction - void kgetColRowStats<__half, 64, 4, 16, 256, 0>(__half*, float*, float*, int*, float)
elementwise - void kTransformRowToFormat<256, 8, 32, 256, 0, 3>(char*, char*, int, int, int)
reduction - void kPercentileClipping<float, 2048, 4>(float*, float*, int, int)
""",
    "AWQ, GPTQ, Marlin, Machete": r"""
gemm quantised_gemm void vllm::awq::gemm_forward_4bit_cuda_m16nXk32<128>(int, int, __half*, int*, __half*, int*, int, int, int, __half*)
elementwise quantize vllm::awq::dequantize_weights(int*, __half*, int*, __half*, int, int, int)
gemm quantised_gemm void vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, 8>(__half const*, unsigned int const*, unsigned int const*)
elementwise quantize vllm::gptq::reconstruct_exllama_8bit_kernel(unsigned int const*, int const*, unsigned int const*, __half const*)
elementwise layout vllm::gptq::shuffle_4bit_kernel(unsigned int*, int, int)
gemm quantised_gemm void VecQuant4MatMulKernel<float>(float const*, int const*, float*, float const*, int const*, int const*)
gemm quantised_gemm void marlin::Marlin<__nv_bfloat16, 1125899906909960l, 256, 1, 8, 8, false, 4, 8, false>(int4 const*, int4 const*, int4*)
elementwise layout void marlin::awq_marlin_repack_kernel<256, 4, false>(unsigned int const*, unsigned int*, int, int)
elementwise layout void marlin::gptq_marlin_repack_kernel<256, 4, true, false>(unsigned int const*, unsigned int const*, unsigned int*)
indexing - void marlin::permute_cols_kernel<8>(int4 const*, int const*, int4*, int const*)
gemm - void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cute::tuple<int, int, int, int>, machete::MacheteCollectiveMma<cutlass::gemm::MainloopSm90TmaGmmaRmemAWarpSpecializedMixedInput<4> > > >(int)
elementwise layout void machete::prepack_B_kernel<256, cute::Layout<cute::tuple<int> >, cute::Tensor<int> >(cute::Tensor<int>)
elementwise layout vllm::gptq::make_sequential_4bit_kernel(unsigned int const*, unsigned int*, int const*, int)
""",
    "vLLM": r"""
reduction rmsnorm void vllm::rms_norm_kernel<c10::BFloat16, 8, 2, true>(c10::BFloat16*, c10::BFloat16 const*, long)
elementwise activation void vllm::act_and_mul_kernel<c10::BFloat16, __nv_bfloat162, &vllm::silu_kernel<c10::BFloat16>, true>(c10::BFloat16*, c10::BFloat16 const*, int)
elementwise quantize void vllm::dynamic_scaled_int8_quant_kernel<c10::BFloat16, float>(c10::BFloat16 const*, signed char*, float*, int)
elementwise quantize void vllm::scaled_fp8_quant_kernel_strided_group_shape<c10::BFloat16, c10::Float8_e4m3fn>(c10::Float8_e4m3fn*)
reduction topk void vllm::moe::topkGating<8, 128, 4, 16, 32, int, __nv_bfloat16, (vllm::moe::ScoringFunc)0>(__nv_bfloat16 const*, bool const*)
indexing kv_cache void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16, __nv_bfloat16, (vllm::Fp8KVCacheDataType)0>(__nv_bfloat16 const*)
indexing kv_cache void vllm::gather_and_maybe_dequant_cache_page<__hip_bfloat16, unsigned char, (vllm::Fp8KVCacheDataType)1>(unsigned char const*)
elementwise mask void vllm::apply_repetition_penalties_kernel<c10::BFloat16>(c10::BFloat16*, bool const*, bool const*)
indexing attention_metadata convert_vertical_slash_indexes_kernel(int const*, int const*, int const*, int const*)
indexing attention_metadata eagle_prepare_inputs_padded_kernel
indexing attention_metadata eagle_prepare_next_token_padded_kernel
reduction topk rejection_greedy_sample_kernel
indexing attention_metadata _compute_slot_mapping_kernel
elementwise rope vllm::rotary_embedding_kernel<sycl::_V1::detail::half_impl::half, true>
indexing attention_metadata copy_and_expand_eagle_inputs_kernel
""",
    "SGLang": r"""
communication allreduce void sglang::cross_device_reduce_1stage<__nv_bfloat16, 4>(sglang::RankData*, sglang::RankSignals)
communication allreduce void (anonymous namespace)::all_reduce_one_shot_push_kernel<__nv_bfloat16, 4u, true>(device::distributed::PushController)
indexing kv_cache void sglang::store_kvcache<512l, 512l, 1, false, long>(sglang::StoreKVCacheParam)
elementwise quantize void per_token_group_quant_8bit_kernel<c10::BFloat16, c10::Float8_e4m3fn, false, false, float>(c10::BFloat16 const*, void*, float*)
elementwise quantize _silu_and_mul_post_quant_kernel
elementwise rope void sglang::fused_rope_kernel<true, 128l, false, __nv_bfloat16, __nv_bfloat16>(int)
indexing attention_metadata build_tree_efficient(long*, long*, long*, int, int, int)
reduction topk void VerifyTreeGreedy<int, long>(int*, int*, int*, long*, long*, long*, long*)
indexing attention_metadata assign_draft_cache_locs_page_size_1
reduction topk void sglang::topk_main_kernel<true, 3>(sglang::TopKParams)
attention - void sglang::flash_c4_prefill<512l>(Params)
indexing attention_metadata create_extend_after_decode_spec_info
""",
    "TensorRT-LLM": r"""
indexing moe_routing void tensorrt_llm::kernels::cutlass_kernels::fusedBuildExpertMapsSortFirstTokenKernel<32, 8, 8>(int const*, int*, int*, long*)
indexing moe_routing void tensorrt_llm::kernels::cutlass_kernels::blockExpertPrefixSumKernel<1024>(int const*, int*)
indexing moe_routing void tensorrt_llm::kernels::cutlass_kernels::expandInputRowsKernel<__nv_bfloat16, __nv_fp4_e2m1, true>(__nv_bfloat16 const*)
elementwise activation void tensorrt_llm::kernels::cutlass_kernels::doActivationKernel<__nv_fp4_e2m1, __nv_bfloat16, __nv_bfloat16, cutlass::epilogue::thread::GELU<float> >(__nv_fp4_e2m1*)
elementwise quantize void tensorrt_llm::kernels::quantize_with_block_size<(tensorrt_llm::BlockScaleQuantizationType)2, __nv_bfloat16, 32, true, false>(int)
indexing kv_cache void tensorrt_llm::kernels::applyBiasRopeUpdateKVCacheV2<__nv_bfloat16, __nv_bfloat16, 128, false>(tensorrt_llm::kernels::QKVPreprocessingParams)
indexing moe_finalize void moe::dev::finalize::finalizeKernelVecLoad<moe::dev::finalize::KernelParams<cutlass::bfloat16_t, cutlass::bfloat16_t, 4, true> >(int)
elementwise activation void moe::dev::activation::activationDeepSeekKernel<moe::dev::activation::KernelParams<cutlass::float_e4m3_t, 1, false, true> >(int)
indexing moe_routing void moe::dev::routing::routingCustom::routingIndicesClusterKernel<moe::dev::routing::routingCustom::KernelParams<float, float, 128> >(int)
reduction topk void tensorrt_llm::kernels::deepseek_v3_topk_kernel<float, __nv_bfloat16, int, 256, true, 8>(float*, float*, int*)
gemm - void fused_a_gemm_kernel<1, 2112, 7168, 16, 8, 256, 16>(__nv_bfloat16*, __nv_bfloat16 const*, __nv_bfloat16 const*)
attention fmha fmhaSm100fKernel_QkvBfloat16OBfloat16H64PagedKvSlidingOrChunkedCausalP64VarSeqQ8Kv128PersistentContext
gemm - void tensorrt_llm::kernels::weight_only::kernel<tensorrt_llm::kernels::weight_only::KernelDetails<tensorrt_llm::kernels::weight_only::FP16DetailsA>, 1, 4, 128, 128, false>(__half*, __half*)
reduction topk void tensorrt_llm::kernels::topKStage1<float, 128, 8>(float const*, float const* const*, float*, int*, float*)
elementwise random tensorrt_llm::kernels::curandInitialize(curandStateXORWOW*, int const*, int, unsigned long)
elementwise mask void tensorrt_llm::kernels::ban_bad_words<float>(float**, int const**, int const*)
""",
    "Liger": r"""
reduction loss liger_cross_entropy_kernel
elementwise activation _swiglu_forward_kernel
elementwise activation _geglu_tanh_forward_kernel
reduction loss _tv_distance_kernel
reduction loss _jsd_kernel
elementwise pointwise element_mul_kernel
elementwise rope _triton_qwen2vl_mrope
elementwise activation _dyt_fwd_kernel
reduction rmsnorm _rms_norm_forward_kernel
reduction softmax _sparsemax_forward_kernel
""",
    "Unsloth": r"""
elementwise rope _rope_embedding
elementwise activation _DWf_DW_dfg_kernel
elementwise activation _exact_forward_kernel
gemm moe_gemm _grouped_gemm_dW_kernel
reduction loss _chunked_cross_entropy_forward
reduction rmsnorm _rms_layernorm_forward
""",
    "Mamba": r"""
reduction scan void selective_scan_fwd_kernel<Selective_Scan_fwd_kernel_traits<128, 16, 1, false, true, true, true, c10::BFloat16, float> >(SSMParamsBase)
reduction scan void selective_scan_bwd_kernel<Selective_Scan_bwd_kernel_traits<128, 16, true, true, true, true, true, c10::BFloat16, float> >(SSMParamsBwd)
reduction scan _chunk_scan_fwd_kernel
reduction scan _chunk_state_bwd_ddAcs_stable_kernel
reduction scan _state_passing_bwd_kernel
reduction scan _selective_scan_update_kernel
reduction scan void selective_state_update_kernel_simple<__nv_bfloat16, float, __nv_bfloat16, float, long, 64, 128>(SelectiveStateUpdateParams)
gemm - _bmm_chunk_fwd_kernel
convolution - void causal_conv1d_fwd_kernel<Causal_conv1d_fwd_kernel_traits<128, 4, true, c10::BFloat16, c10::BFloat16> >(ConvParamsBase)
convolution - void causal_conv1d_channellast_bwd_kernel<Causal_conv1d_channellast_bwd_kernel_traits<128, 4, 64, true, c10::BFloat16, c10::BFloat16>, true, false, false>(ConvParamsBwd)
""",
    "Apex": r"""
reduction layernorm void cuApplyLayerNorm<c10::BFloat16, float, c10::BFloat16>(c10::BFloat16*, float*, float*, c10::BFloat16 const*)
reduction layernorm void cuComputeGradInput<c10::BFloat16, float, c10::BFloat16>(c10::BFloat16 const*, c10::BFloat16 const*)
reduction softmax void cunn_SoftMaxXEntropyForward<4, c10::Half, float, float, LogSoftMaxForwardEpilogue>(float*, float*, c10::Half*, long*)
reduction batchnorm void welford_kernel_parallel<float>(float const*, float const*, int const*, float*)
elementwise optimizer void multi_tensor_apply_kernel<TensorListMetadata<4>, AdamFunctor<float>, float, float, float, float, float, float, adamMode_t, float>(long, int volatile*)
reduction loss void focal_loss_forward_cuda_kernel<false, 4, c10::Half, long, float, float>(float*, c10::Half*, c10::Half const*)
elementwise - void transducer_joint_forward<c10::Half, OffsetCalFwd<false> >(c10::Half const*, c10::Half const*, int const*)
elementwise - void biasAddRelu_fprop<__half>(__half*, __half*, unsigned int, unsigned int)
""",
    "DeepSpeed": r"""
elementwise quantize void cached_quantization<8, (quantize::Type)0, 2, 4, 256, 512>(signed char*, float*, __half const*, int, int)
elementwise pointwise fused_bias_residual(float*, float const*, float const*, float const*, int, int)
reduction layernorm fused_bias_residual_layer_norm(float*, float const*, float const*, float const*, float, bool, bool)
elementwise rope void apply_rotary_pos_half<__half, 64, 8>(__half*, __half*, unsigned int, unsigned int)
indexing kv_cache void kv_rotary_pos_kernel<__half, 64, false, 2>(__half*, __half*, __half*)
reduction topk void top_k_gating_kernel<__half, 2>(int*, float*, int*, int*, __half const*)
indexing - void moe_gather_kernel<__half, 16, 2>(__half*, __half const*, float const*, int const*)
""",
    "torchao": r"""
elementwise quantize to_mxfp8_dim1_kernel
elementwise quantize triton_fp8_blockwise_weight_quant_rhs_kernel
elementwise quantize triton_fp8_blockwise_act_quant_lhs_kernel
elementwise quantize _triton_fp8_rowwise_3d_transpose_scales_rhs_kernel
gemm - matmul_kernel_with_block_pointers
elementwise quantize void mxfp8_quantize_kernel<__nv_bfloat16, __nv_fp8_e4m3, 1ul, 32ul, (ScaleCalculationMode)0>(CUtensorMap_st, CUtensorMap_st)
""",
    "torchrec": r"""
indexing sparse_permute permute_pooled_embeddings_kernel
indexing sparse_permute permute_multi_embeddings_kernel
indexing - void fbgemm_gpu::keyed_jagged_index_select_dim1_kernel<float, long, float, true>(int)
""",
    "PyG": r"""
indexing - void segment_csr_kernel<float, (ReductionType)0, 32>(float const*, at::cuda::detail::TensorInfo<long, int>, float*, long*, unsigned long, unsigned long)
indexing - void segment_coo_kernel<float, (ReductionType)0, true>(float const*, at::cuda::detail::TensorInfo<long, int>, float*)
indexing - void gather_csr_broadcast_kernel<float>(float const*, at::cuda::detail::TensorInfo<long, int>, float*)
gemm - void spmm_kernel<float, (ReductionType)0, true>(long const*, long const*, float const*, float const*, float*, long*)
reduction - void fps_kernel<float>(float const*, long const*, long const*, long const*, float*, long*, long)
convolution - void spline_weighting_fw_kernel<float>(float const*, float const*, float const*, long const*, float*)
indexing - void radius_kernel<float>(float const*, float const*, long const*, long const*, long*, long*)
""",
    "DGL": r"""
gemm - void dgl::aten::cuda::SpMMCooKernel<long, float, dgl::aten::cuda::binary::CopyLhs<float>, dgl::aten::cuda::reduce::Sum<long, float, true>, false, false>(float const*, float const*)
gemm - void dgl::aten::cuda::SpMMCsrKernel<int, float, dgl::aten::cuda::binary::Mul<float>, dgl::aten::cuda::reduce::Max<int, float, false>, true, false>(float const*)
gemm - void dgl::aten::cuda::SDDMMCooTreeReduceKernel<long, float, false, false, 0, 2>(float const*, float const*)
indexing - void dgl::aten::cuda::BackwardSegmentCmpKernel<long, float>(float const*, long const*, float*, long, long)
indexing - void dgl::aten::impl::IndexSelectMultiKernel<float, long>(float const*, long, long const*, long, float*)
indexing - void dgl::aten::impl::(anonymous namespace)::_CSRRowWiseSampleUniformKernel<long, 16>(unsigned long, long, long)
reduction - void dgl::aten::cuda::SegmentReduceKernel<long, float, dgl::aten::cuda::reduce::Sum<long, float, false> >(float const*, long const*, float*)
indexing - void dgl::sampling::impl::(anonymous namespace)::_RandomWalkKernel<long, 256, 1>(unsigned long, long const*)
indexing - void dgl::aten::impl::_SegmentCopyKernel<long, float>(long const*, float const*)
""",
    "cuSPARSE": r"""
gemm - void cusparse::csrmm_alg2_kernel<cusparse::CsrMMPolicy<int, float, float, float>, true, false, false, int, int, float, float, float>(int)
gemm - void cusparse::csrmm_v2_kernel<cusparse::CsrMMPolicy<int, float, float, float>, true, false, false, int, int, int, int, float, float, float>(int)
gemm - void cusparse::csrmv_v3_kernel<std::integral_constant<bool, false>, long, long, float, float, float, float, void>(cusparse::KernelCoeffs<float>, long const*)
gemm - void cusparse::load_balancing_kernel<256u, 1u, 0ul, int, int, __gnu_cxx::__normal_iterator<int> >(int)
indexing - void cusparse::partition_kernel<128, int, int>(int const*, int, int, int, int, int*)
elementwise - void cusparse::vector_scalar_multiply_kernel<256, float>(cusparse::KernelCoeff<float>, float*)
""",
    "cuFFT": r"""
other fft void vector_fft<4096u, EPT<32u>, 1u, 4u, 70u, 0u, 2u, 0u, unsigned int, float, HostConfigPlaceholder>(kernel_arguments_t<unsigned int>)
other fft void composite_2way_fft<20u, 4u, 32u, (padding_t)0, (twiddle_t)0, (loadstore_modifier_t)2, 5u, (layout_t)1, unsigned int, double>(kernel_arguments_t<unsigned int>)
other fft void composite_2way_fft_c2r<72u, 8u, 16u, (padding_t)1, (twiddle_t)0, (loadstore_modifier_t)2, 9u, (layout_t)1, unsigned int, float>(kernel_arguments_t<unsigned int>)
other fft void regular_fft_r2c<384u, EPT<4u, 6u>, 2u, 6u, (padding_t)14, (twiddle_t)0, (loadstore_modifier_t)2>(kernel_arguments_t<unsigned int>)
other fft void multi_bluestein_fft<256u, 8u, 4u, (padding_t)1, (twiddle_t)0, (loadstore_modifier_t)2>(kernel_arguments_t<unsigned int>)
other fft fft_rtc_fwd_len200_factors_5_8_5_wgs_400_tpt_40_sp_ip_CI_sbcc
""",
    "cuSOLVER": r"""
other linear_algebra void sytd2_upper_cta<double2, double, 4>(int, double2*, unsigned long, double*, double*, double2*)
other linear_algebra void geqr2_smem_domino_fast<float, float, 8, 512>(int, int, float*, unsigned long)
other linear_algebra void geqr2_smem<double, double, 8, 6, 4>(int, int, double*, unsigned long)
other linear_algebra void kernel<getrf_wo_pivot_params_<float, 0, 256, 1, 64, 64, 68, 8, 1, 1> >(getrf_wo_pivot_params_<float, 0, 256, 1, 64, 64, 68, 8, 1, 1>)
other linear_algebra void potrf_alg2_cta_upper<double2, double, 32>(int, int, double2*, unsigned long, int*)
other linear_algebra potrf_alg2_set_info(int, int, int*)
other linear_algebra void laed0_phase1_kernel<double, 8>(int, double const*, int, int const*, double*, int, int, int)
other linear_algebra void stedcx_convert_kernel<double2, double, 8>(int, int, double const*, int, double2*, int)
other linear_algebra void ormql_cta_kernel<double2, 4, 1>(int, int, int, double2 const*, unsigned long)
gemm - void trsm_left_kernel<double, 256, 4, true, false, false, false, false>(cublasTrsmParams<double>, double, double const*, int)
""",
    "CUB and Thrust": r"""
reduction sort void cub::CUB_200700_800_NS::DeviceMergeSortBlockSortKernel<cub::CUB_200700_800_NS::DeviceMergeSortPolicy<long*>::Policy600, long*, long*>(bool, long*)
reduction sort void cub::DeviceRadixSortHistogramKernel<cub::DeviceRadixSortPolicy<long, int, int>::Policy800, false, long, int>(int*)
reduction topk void cub::detail::topk::DeviceTopKKernel<cub::detail::topk::policy_hub<float, int, int>::Policy900, float const*, float*>(int)
reduction scan void cub::DeviceScanByKeyKernel<cub::DeviceScanByKeyPolicy<int*, int, int, cub::Sum>::Policy900, int*>(int)
elementwise - void thrust::cuda_cub::core::_kernel_agent<thrust::cuda_cub::__parallel_for::ParallelForAgent<thrust::cuda_cub::__transform::unary_transform_f<long*>, long>, long>(long)
indexing select void cub::DeviceSelectSweepKernel<cub::DispatchSelectIf<long*, bool*>::PtxSelectIfPolicyT, long*>(int)
""",
    "MIOpen": r"""
convolution conv_winograd miopenSp3AsmConv_v30_3_1_gfx9_fp32_f2x3_stride1
convolution conv_dgrad igemm_bwd_gtcx35_nhwc_fp32_bx0_ex0_bt256x64x16_wt32x32x2_ws1x1_wr2x1
elementwise - SubTensorOpWithScalar1d
elementwise transpose batched_transpose_32x32_half
reduction batchnorm MIOpenBatchNormFwdInferSpatialEst
convolution - gridwise_convolution_implicit_gemm_v6r1_dlops_nchw_kcyx_nkhw
""",
    "rocPRIM": r"""
reduction scan void rocprim::detail::single_scan_kernel<false, rocprim::default_config, int*, int*>(int*)
reduction scan void rocprim::ROCPRIM_400000_NS::detail::init_lookback_scan_state_kernel<rocprim::ROCPRIM_400000_NS::detail::lookback_scan_state<int, false, true> >(int)
indexing select void rocprim::ROCPRIM_400000_NS::detail::partition_kernel<(rocprim::ROCPRIM_400000_NS::detail::select_method)0, true, rocprim::ROCPRIM_400000_NS::default_config, long*>(long*)
reduction sort void rocprim::ROCPRIM_400200_NS::detail::trampoline_kernel<rocprim::ROCPRIM_400200_NS::detail::wrapped_radix_sort_onesweep_config<rocprim::ROCPRIM_400200_NS::default_config, float, long>, int>(int)
""",
    "RCCL": r"""
communication - ncclDevKernel_Generic_1(ncclDevKernelArgsStorage<4096ul>)
communication - mscclKernel_Sum_hip_bfloat16_Simple_false(ncclDevComm*)
communication - mscclKernel_Sum_half_Simple_false(ncclDevComm*)
communication - void rcclGenericKernel<1, false>(ncclDevKernelArgsStorage<4096ul>)
""",
    "oneDNN and XPU": r"""
elementwise - at::native::xpu::VectorizedElementwiseKernel<4, at::native::xpu::GeluErfFunctor<float>, at::detail::Array<char*, 2>, TrivialOffsetCalculator<1, unsigned int> >
elementwise - at::native::xpu::UnrolledElementwiseKernel<at::native::xpu::CopyScalarFunc<float>, at::detail::Array<char*, 2> >
elementwise - at::native::xpu::ElementwiseGlobalRangeKernel<at::native::xpu::AddFunctor<float> >
reduction reduce at::native::xpu::ReduceKernel<1, at::native::xpu::ReduceOp<float, at::native::xpu::ArgMaxOps<float>, unsigned int, long, 4, 4> >
reduction sort at::native::xpu::SegmentedRadixSortPairsDownsweepFunctor<at::native::xpu::SegmentedGroupRadixSort<float, long> >
reduction scan at::native::xpu::SegmentScanKernel<at::native::xpu::SegmentScanConfig<long, std::plus<long> > >
reduction scan at::native::xpu::AccumulateCarrierKernelFunctor<at::native::xpu::LoopScanConfig<long> >
reduction softmax at::native::xpu::impl::SoftmaxForwardKernelFunctor<4, float, float, float>
indexing - at::native::xpu::ScatterGatherElementwiseKernelFunctor<16, at::native::xpu::ScatterGatherKernelFunctor>
indexing - at::native::xpu::VectorizedGatherKernel<16, long>
indexing - at::native::xpu::IndexKernelFunctor<at::native::xpu::IndexFunctor>
elementwise random at::native::xpu::DistributionElementwiseKernelFunctor<float, at::native::xpu::ExponentialFunctor>
gemm - gemm_kernel
gemm - ref_matmul
elementwise - gen9_binary
elementwise - gen9_eltwise_fwd
elementwise - xe_eltwise_fwd
reduction - gen9_calc_mean_var_nhwc
reduction pooling gen9_global_pooling_fwd
reduction pooling xe_pooling_fwd
reduction - xe_calculate_stats_nhwc
reduction layernorm ref_lnorm_fwd
convolution - gen9_wino_wei_transform
elementwise resample ref_resampling_fwd
""",
    "Triton's examples": r"""
elementwise pointwise add_kernel
elementwise pointwise add_kernel_0d1d2d3de
gemm - matmul_kernel_0d1d2d3d4d5d6d7c8d9c10d11c
reduction softmax softmax_kernel
reduction layernorm _layer_norm_fwd_fused
reduction layernorm _layer_norm_bwd_dwdb
elementwise dropout _seeded_dropout
attention - _attn_bwd_preprocess
gemm moe_gemm grouped_matmul_tma_kernel
gemm - block_scaled_matmul_kernel
""",
}

CASES = [(library, *line.split(" ", 2)) for library, text in LIBRARIES.items() for line in text.strip().splitlines()]


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_has_three_names(library: str) -> None:
    assert len({name for of, _, _, name in CASES if of == library}) >= 3


@pytest.mark.parametrize(("library", "family", "kind", "name"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_a_librarys_kernel(library: str, family: str, kind: str, name: str) -> None:
    label = TAXONOMY.classify(name)
    assert label.family == family, f"{library}: {label}"
    assert kind in ("-", label.kind), f"{library}: {label}"
