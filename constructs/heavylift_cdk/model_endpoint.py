"""ModelEndpoint: SageMaker's Model, EndpointConfig and Endpoint, as a plan says.

Not the bucket, the key and the role: those outlive a model and come from the foundation stack.
"""

from __future__ import annotations

from typing import Any

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from heavylift.plan.plan import Plan
from heavylift_cdk.runtime_image import BoundImage, RuntimeImage

VARIANT = "AllTraffic"


class ModelEndpoint(Construct):
    """One model behind one endpoint.

    Every property of Model and EndpointConfig is create-only in CloudFormation, so these two have no physical names and
    are replaced by any change; the endpoint keeps its name, the plan's, and is updated in place.
    """

    def __init__(
        self, scope: Construct, id: str, *, plan: Plan, weights: s3.IBucket, role: iam.IRole, image: RuntimeImage
    ) -> None:
        super().__init__(scope, id)
        bound = image.bind(self)
        model = sagemaker.CfnModel(
            self,
            "Model",
            execution_role_arn=role.role_arn,
            enable_network_isolation=plan.enable_network_isolation,
            primary_container=_container(plan, weights, bound),
        )
        # SageMaker refuses a model whose role may not read its data and pull its image: the role's policies go first.
        model.node.add_dependency(role)
        if bound.repository_arn is not None:
            model.node.add_dependency(self._allow_pull(role, bound.repository_arn))
        config = sagemaker.CfnEndpointConfig(self, "Config", production_variants=[_variant(plan, model)])
        self._endpoint = sagemaker.CfnEndpoint(
            self, "Endpoint", endpoint_name=plan.name, endpoint_config_name=config.attr_endpoint_config_name
        )
        self._name = plan.name
        self.config_name = config.attr_endpoint_config_name

    @property
    def name(self) -> str:
        """The endpoint's name, as CloudFormation returns it: a reference, so its user waits for the endpoint."""
        return self._endpoint.attr_endpoint_name

    @property
    def arn(self) -> str:
        """The endpoint's ARN, from its name alone, so that a policy need not wait for the endpoint."""
        return Stack.of(self).format_arn(
            service="sagemaker",
            resource="endpoint",
            resource_name=self._name,
            arn_format=ArnFormat.SLASH_RESOURCE_NAME,
        )

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` invoke this endpoint, streaming or not."""
        return iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"],
            resource_arns=[self.arn],
        )

    def metric(self, name: str, *, namespace: str = "AWS/SageMaker", **options: Any) -> cloudwatch.Metric:
        """One of SageMaker's metrics of this endpoint; `options` are aws_cloudwatch.Metric's."""
        dimensions = {"EndpointName": self._name, "VariantName": VARIANT}
        return cloudwatch.Metric(namespace=namespace, metric_name=name, dimensions_map=dimensions, **options)

    def metric_invocations(self) -> cloudwatch.Metric:
        """Requests, a count."""
        return self.metric("Invocations", statistic=cloudwatch.Stats.SUM)

    def metric_server_errors(self) -> cloudwatch.Metric:
        """Requests that ended with a 5XX status, a count."""
        return self.metric("Invocation5XXErrors", statistic=cloudwatch.Stats.SUM)

    def metric_model_latency(self, *, percentile: float) -> cloudwatch.Metric:
        """The container's own time for a request, in microseconds."""
        return self.metric("ModelLatency", statistic=cloudwatch.Stats.percentile(percentile))

    def metric_gpu_memory(self) -> cloudwatch.Metric:
        """GPU memory in use, in percent, summed over the devices: 8 full ones are 800."""
        return self.metric(
            "GPUMemoryUtilization", namespace="/aws/sagemaker/Endpoints", statistic=cloudwatch.Stats.MAXIMUM
        )

    def _allow_pull(self, role: iam.IRole, repository_arn: str) -> iam.Policy:
        actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        statement = iam.PolicyStatement(actions=actions, resources=[repository_arn])
        return iam.Policy(self, "PullImage", roles=[role], statements=[statement])


def _container(plan: Plan, weights: s3.IBucket, image: BoundImage) -> sagemaker.CfnModel.ContainerDefinitionProperty:
    """By default the model's folder is the rendered options, and the ranks read the weights from S3 themselves.

    With network isolation the container cannot reach S3: SageMaker downloads the weights into that folder, and the
    plan's environment carries the options.
    """
    isolated = plan.enable_network_isolation
    prefix = plan.weights_prefix if isolated else plan.config_prefix
    where = {} if isolated else {"OPTION_MODEL_ID": weights.s3_url_for_object(plan.weights_prefix)}
    return sagemaker.CfnModel.ContainerDefinitionProperty(
        image=image.uri,
        environment={**plan.environment, **where},
        model_data_source=sagemaker.CfnModel.ModelDataSourceProperty(
            s3_data_source=sagemaker.CfnModel.S3DataSourceProperty(
                s3_uri=weights.s3_url_for_object(prefix), s3_data_type="S3Prefix", compression_type="None"
            )
        ),
    )


def _variant(plan: Plan, model: sagemaker.CfnModel) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
    variant = plan.variant
    return sagemaker.CfnEndpointConfig.ProductionVariantProperty(
        variant_name=VARIANT,
        model_name=model.attr_model_name,
        instance_type=plan.instance.type,
        initial_instance_count=plan.instance.count,
        initial_variant_weight=1,
        model_data_download_timeout_in_seconds=variant.model_data_download_timeout_in_seconds,
        container_startup_health_check_timeout_in_seconds=variant.container_startup_health_check_timeout_in_seconds,
        volume_size_in_gb=variant.volume_size_in_gb,
        inference_ami_version=variant.inference_ami_version,
    )
