"""Every key of the configuration file: those this service reads, and those that only LiteLLM does.

LiteLLM's are those of its documentation (contract, `litellm.md` section 2), so that a file written for it
loads here; all that are met are listed in one warning. Anything else is a mistake worth stopping for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys one section may hold."""

    ours: frozenset[str]
    theirs: frozenset[str] = frozenset()
    #: Whether LiteLLM lets its users add keys of their own to this section.
    free: bool = False

    def known(self) -> frozenset[str]:
        return self.ours | self.theirs


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TOP = Keys(
    ours=_words("model_list router_settings litellm_settings general_settings environment_variables"),
    theirs=_words("""
        a2a_agents agent_settings assistant_settings callback_settings cost_discount_config
        cost_margin_config credential_list default_team_settings files_settings finetune_settings guardrails
        include litellm_license mcp_aliases mcp_builtin_servers mcp_servers mcp_tools pass_through_endpoints
        policies policy_attachments prompts sandbox_tools search_tools vector_store_registry worker_registry
    """),
)

MODEL = Keys(
    ours=_words("model_name litellm_params model_info"),
    theirs=_words("access_groups blocked rpm team_id tpm"),
)

LITELLM_PARAMS = Keys(
    ours=_words("""
        api_base api_key api_version background_timeout connect_timeout custom_llm_provider file_retention
        first_byte_timeout input_cost_per_token max_parallel_requests model order output_cost_per_token
        retention rpm stream_timeout stream_total_timeout timeout tpm weight
    """),
    theirs=_words("""
        adaptive_router_config adaptive_router_default_model additional_drop_params
        allow_client_keepalive_override allowed_fails allowed_fails_policy allowed_openai_params api_type
        auto_router_config auto_router_config_path auto_router_default_model auto_router_embedding_model
        auto_router_max_input_chars auto_router_model_compression auto_router_routing_compression
        aws_access_key_id aws_batch_role_arn aws_bedrock_project_id aws_bedrock_runtime_endpoint
        aws_external_id aws_profile_name aws_region_name aws_role_name aws_secret_access_key
        aws_session_name aws_session_tags aws_session_token aws_sts_endpoint aws_web_identity_token
        azure_ad_token azure_ad_token_provider azure_password azure_scope azure_username base_model base_url
        bedrock_tags bucket_name budget_duration cache cache_control_injection_points
        cache_creation_input_token_cost cache_read_input_token_cost caching caching_groups client_id
        client_secret complexity_router_config complexity_router_default_model
        configurable_clientside_auth_params context_window_fallback_dict cooldown_time
        default_api_key_rpm_limit default_api_key_tpm_limit deployment_id disable_add_prefix_to_prompt
        drop_params dummy_response_model_name embedding_model encoding_format extra_body extra_headers
        fallbacks force_timeout frequency_penalty functions gcs_bucket_name google_maps_cost guardrails
        headers hf_model_name index_name input_cost_per_audio_token input_cost_per_character
        input_cost_per_image input_cost_per_pixel input_cost_per_second
        input_cost_per_token_above_128k_tokens input_cost_per_token_above_200k_tokens
        input_cost_per_token_batches itpm keepalive_seconds litellm_credential_name litellm_metadata
        litellm_system_prompt litellm_trace_id location logit_bias logprobs max_budget max_completion_tokens
        max_file_size_mb max_retries max_tokens merge_reasoning_content_in_choices metadata milvus_db_name
        milvus_partition_names milvus_text_field mock_response mock_timeout mock_tool_calls model_alias_map
        model_group model_info n no-log num_retries ocr_cost_per_page oracle_router_config organization otpm
        output_cost_per_audio_token output_cost_per_character output_cost_per_image output_cost_per_pixel
        output_cost_per_reasoning_token output_cost_per_second output_cost_per_second_1080p
        output_cost_per_second_2k output_cost_per_second_480p output_cost_per_second_4k
        output_cost_per_second_720p output_cost_per_second_768p output_cost_per_token_above_128k_tokens
        output_cost_per_token_above_200k_tokens output_cost_per_token_batches parallel_tool_calls
        presence_penalty preset_cache_key project prompt_id prompt_variables provider_affinity_header
        proxy_server_request quality_router_config quality_router_default_model reasoning_effort region_name
        response_format retry_policy retry_strategy s3_access_key_id s3_bucket_name s3_bucket_owner
        s3_encryption_key_id s3_endpoint_url s3_output_bucket_name s3_region_name s3_secret_access_key
        safety_settings seed service_tier set_verbose ssl_verify stop store stream
        stream_chunk_builder_options stream_options supports_system_message system_instruction tag_regex
        tags temperature tenant_id text_completion thinking tiered_pricing tool_choice tools top_k
        top_logprobs top_p use_chat_completions_api use_in_pass_through use_litellm_proxy
        use_psc_endpoint_format use_xai_oauth user user_continue_message valkey_embedding_field valkey_host
        valkey_password valkey_port valkey_ssl valkey_text_field vector_bucket_name vector_size
        vector_store_id vector_store_ids verbosity vertex_ai_location vertex_ai_project vertex_credentials
        vertex_location vertex_project watsonx_region_name web_search_options
    """),
)

MODEL_INFO = Keys(
    ours=_words("id input_cost_per_token output_cost_per_token"),
    theirs=_words("""
        access_groups access_windows adaptive_router_preferences allow_fail_open base_model blocked
        cache_creation_input_token_cost cache_read_input_token_cost cost_per_ptu_per_hour created_at
        created_by db_model disable_background_health_check discoverable enable_tag_filtering
        health_check_max_tokens health_check_model health_check_timeout health_check_voice
        internal_router_model key max_input_tokens max_output_tokens max_tokens member_auto_router mode
        ptu_count ptu_effective_from ptu_effective_to rpm supported_environments supported_openai_params
        supports_function_calling supports_reasoning supports_response_schema supports_vision
        supports_web_search team_id team_public_model_name tier tpm updated_at updated_by version
    """),
    free=True,
)

ROUTER_SETTINGS = Keys(
    ours=_words("""
        allowed_fails connect_timeout cooldown_time default_fallbacks disable_cooldowns fallbacks
        first_byte_timeout max_fallbacks model_group_alias num_retries optional_pre_call_checks retry_after
        retry_allowance retry_ambiguous retry_policy routing_strategy shared_state_interval stream_timeout
        stream_total_timeout timeout
    """),
    theirs=_words("""
        alerting_config allow_client_keepalive_override allowed_fails_policy assistants_config
        auto_router_capability_limit background_health_check_model_groups cache_kwargs cache_responses
        caching_groups client_ttl content_policy_fallbacks context_window_fallbacks debug_level
        default_litellm_params default_max_parallel_requests default_priority
        deployment_affinity_ttl_seconds disable_cooldown enable_health_check_routing enable_pre_call_check
        enable_pre_call_checks enable_tag_filtering enable_weighted_failover fallback_access_check
        fallback_budget_check guardrail_list health_check_ignore_transient_errors
        health_check_staleness_threshold heuristic_v2_router_limit ignore_invalid_deployments
        keepalive_seconds max_retries model_group_affinity_config model_group_retry_policy plugins
        polling_interval provider_budget_config redis_db redis_host redis_password redis_port redis_ssl
        redis_url redis_username router_general_settings routing_groups routing_strategy_args search_tools
        semaphore set_verbose tag_filtering_match_any tag_routing_prefix weights
    """),
)

LITELLM_SETTINGS = Keys(
    ours=_words("""
        allowed_fails cooldown_time default_fallbacks fallbacks max_fallbacks model_group_alias num_retries
        request_timeout stream_timeout
    """),
    theirs=_words("""
        add_function_to_prompt add_user_information_to_llm_headers advisor_interception_params
        aiohttp_trust_env allow_dynamic_callback_disabling allowed_openai_params always_include_stream_usage
        api_base api_key api_version audit_log_callbacks aws_sqs_callback_params azure_key
        banned_keywords_list blocked_user_list budget_duration budget_reset_time cache cache_params caching
        callback_settings callbacks client_session code_interpreter_interception_params
        content_policy_fallbacks context_window_fallbacks cost_discount_config cost_margin_config
        custom_prometheus_metadata_labels custom_prometheus_tags custom_provider_map
        datadog_llm_observability_params datadog_params default_in_memory_ttl default_internal_user_params
        default_key_generate_params default_max_internal_user_budget default_redis_batch_cache_expiry
        default_redis_ttl default_team_params default_team_settings default_user_id
        disable_add_prefix_to_prompt disable_add_transform_inline_image_block
        disable_add_user_agent_to_request_tags disable_aiohttp_transport disable_aiohttp_trust_env
        disable_copilot_system_to_assistant disable_default_user_agent disable_end_user_cost_tracking
        disable_end_user_cost_tracking_prometheus_only disable_hf_tokenizer_download
        disable_stop_sequence_limit disable_streaming_logging disable_token_counter drop_params email
        enable_azure_ad_token_refresh enable_caching_on_provider_specific_optional_params
        enable_end_user_cost_tracking_prometheus_only enable_json_schema_validation
        enable_key_alias_format_validation enable_loadbalancing_on_batch_endpoints enable_preview_features
        enable_redis_auth_cache extra_spend_tag_headers failure_callback file_content_callback force_ipv4
        forward_traceparent_to_llm_provider gcs_pub_sub_use_v1 generic_api_callback generic_logger_headers
        global_disable_no_log_param guardrail_name_config_map guardrails headers
        in_memory_llm_clients_cache_ttl include_cost_in_streaming_usage internal_user_budget_duration
        json_logs key_alias_pattern key_generation_settings langfuse_default_tags langsmith_batch_size
        langsmith_default_run_name LITELLM_DISABLE_STOP_SEQUENCE_LIMIT litellm_key_header_name
        llamaguard_model_name llamaguard_unsafe_content_categories llmguard_mode log_raw_request_response
        logging max_budget max_end_user_budget max_end_user_budget_id max_internal_user_budget
        max_parallel_requests max_ui_session_budget max_user_budget mcp_aliases mcp_semantic_tool_filter
        modify_params num_retries_per_request openai_moderations_model_name organization output_parse_pii
        overwrite_user_with_key_hash post_call_rules pre_call_rules presidio_ad_hoc_recognizers
        priority_reservation priority_reservation_settings prometheus_emit_stream_label
        prometheus_initialize_budget_metrics prometheus_metrics_config prompts public_agent_groups
        public_mcp_servers public_model_groups public_model_groups_links redact_messages_in_exceptions
        redact_user_api_key_info require_auth_for_metrics_endpoint require_managed_files
        responses_api_settings return_response_headers route_all_chat_openai_to_responses routing_strategy
        s3_callback_params service_callback service_callbacks set_verbose skip_system_message_in_guardrail
        skip_tool_message_in_guardrail ssl_certificate ssl_ecdh_curve ssl_security_level ssl_verify
        standard_logging_payload_excluded_fields store_audit_logs store_prompts_in_cold_storage
        success_callback suppress_debug_info tag_budget_config team_budget_alerts telemetry timeout token
        turn_off_message_logging ui_theme_config upperbound_key_generate_params
        use_chat_completions_url_for_anthropic_messages use_client use_legacy_interactions_schema
        use_litellm_proxy user_header_name user_url_allowed_hosts user_url_validation vector_store_registry
        vertex_location vertex_project websearch_interception_params
    """),
)

GENERAL_SETTINGS = Keys(
    ours=_words("""
        adopt_unknown background_streams background_timeout claim_batch claim_interval
        database_connection_pool_limit database_url drain_timeout event_flush_interval export_stall_timeout
        history host idempotency_retention index_interval keep_alive_interval keep_media lease_seconds master_key
        max_body_bytes max_concurrent_requests max_media_bytes max_rebuild_bytes max_request_size_mb
        poll_interval poll_interval_max poll_rate port recorded_projects retention_interval
        retention_policies stream_idle_timeout supervisor_concurrency upstream_settle
        usage_interval webhook_allow_private webhook_concurrency webhook_retry_after webhook_retry_for
        webhook_secret webhook_timeout writer_queue_limit
    """),
    theirs=_words("""
        access_group_budget_enforcement admin_only_routes admission_queue_timeout_seconds
        alert_to_webhook_url alert_type_config alert_types alert_webhook_url alerting alerting_args
        alerting_threshold allow_cli_sso_verification_uri_complete allow_client_side_credentials
        allow_requests_on_db_unavailable allow_unmanaged_response_ids allow_user_auth
        allowed_file_extensions allowed_ips allowed_routes allowed_routes_enforcement
        always_include_stream_usage auto_redirect_ui_login_to_sso background_health_check_max_tokens
        background_health_check_model_groups background_health_checks block_robots blocked_file_extensions
        cancel_on_disconnect completion_model control_plane_url coordination_redis custom_auth
        custom_auth_run_common_checks custom_auth_settings custom_key_generate custom_key_policy
        custom_key_update custom_sso custom_ui_sso_sign_in_handler
        dangerously_permit_weak_or_unset_master_key database_args database_connect_timeout
        database_connection_pool_timeout database_connection_timeout database_disable_prepared_statements
        database_extra_connection_params database_lock_timeout database_name database_socket_timeout
        database_statement_timeout database_type debug default_team_disabled detailed_debug
        disable_adding_master_key_hash_to_db disable_auth_for_health_check
        disable_auto_add_proxy_admin_to_teams disable_batch_input_file_rate_limiting
        disable_budget_reservation disable_env_credential_login disable_error_logs disable_health_check_logs
        disable_key_management disable_master_key_return disable_prisma_schema_update disable_reset_budget
        disable_responses_id_security disable_retry_on_max_parallel_request_limit_error disable_spend_logs
        disable_spend_updates drain_endpoint_token embedding_model enable_drain_endpoint
        enable_health_check_routing enable_jwt_auth enable_mcp_registry enable_oauth2_auth
        enable_oauth2_proxy_auth enable_public_model_hub enforce_fallback_budget
        enforce_fallback_model_access enforce_rbac enforce_user_param enforced_params environment_variables
        fail_closed_budget_enforcement failed_login_block_seconds failed_login_window_seconds
        forward_client_headers_to_llm_api forward_llm_provider_auth_headers forward_openai_org_id
        global_max_parallel_requests health_check_concurrency health_check_details
        health_check_ignore_transient_errors health_check_interval
        health_check_skip_disabled_background_models health_check_staleness_threshold image_generation_model
        include_call_id_in_error_body infer_model_from_keys initial_budget_reset jwt_auth
        key_management_settings key_management_system legacy_unscoped_spend_list_endpoints litellm_jwtauth
        litellm_key_header_name litellm_license managed_files max_batch_file_size_mb
        max_failed_login_attempts_per_source max_failed_login_attempts_per_source_overrides max_file_size_mb
        max_in_flight_requests_per_worker max_parallel_requests max_queued_requests_per_worker
        max_response_size_mb maximum_autorouter_session_retention_period
        maximum_health_check_retention_period maximum_managed_objects_retention_period
        maximum_spend_logs_cleanup_batch_size maximum_spend_logs_cleanup_batch_timeout
        maximum_spend_logs_cleanup_cron maximum_spend_logs_cleanup_max_batches
        maximum_spend_logs_cleanup_run_budget maximum_spend_logs_retention_interval
        maximum_spend_logs_retention_period mcp_client_side_auth_header_name mcp_internal_ip_ranges
        mcp_required_fields mcp_trusted_proxy_ranges mcp_xff_num_trusted_hops missing_session_id
        model_list_healthy_only moderation_model oauth2_config_mappings otel pass_through_endpoints
        pass_through_request_timeout plugins proxy_base_url proxy_batch_polling_interval
        proxy_batch_write_at proxy_budget_rescheduler_max_time proxy_budget_rescheduler_min_time
        proxy_config_reload_interval_seconds public_routes reject_clientside_metadata_tags
        require_end_user_mcp_access_defined require_key_mcp_access_defined role_permissions
        scheduled_job_stagger scope_spend_list_endpoints_to_caller search_tools service_account_settings
        skip_batch_input_file_rate_limiting_for_models skip_batch_input_file_rate_limiting_for_providers
        spend_capture_rate_check spend_report_frequency sse_keepalive_ping_interval_seconds
        store_model_in_db store_prompts_in_cold_storage store_prompts_in_spend_logs supported_db_objects
        token_rate_limit_type token_validation_callback trusted_proxy_ranges ui_access_mode ui_logo_path
        ui_password ui_username use_azure_key_vault use_client_credentials_pass_through_routes
        use_google_kms use_redis_transaction_buffer use_shared_health_check use_spend_logs_partitioning
        use_x_forwarded_for user_api_key_cache_max_size user_api_key_cache_ttl user_header_mappings
        user_header_name user_mcp_management_mode user_url_validation
    """),
)

ENVIRONMENT_VARIABLES = Keys(ours=frozenset(), free=True)

#: Where to look when a key is in the wrong section.
SECTIONS = {
    "model_list[].litellm_params": LITELLM_PARAMS,
    "model_list[].model_info": MODEL_INFO,
    "router_settings": ROUTER_SETTINGS,
    "general_settings": GENERAL_SETTINGS,
    "litellm_settings": LITELLM_SETTINGS,
}
