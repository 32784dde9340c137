// Reads resources as a JSON array from stdin, prints what is wrong with each as a line of JSON; nothing when all are right.
import * as gateway from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute";
import * as monitor from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";
import * as rule from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";

const MODELS = { HTTPRoute: gateway.HTTPRoute, ServiceMonitor: monitor.ServiceMonitor, PrometheusRule: rule.PrometheusRule };

let text = "";
for await (const chunk of process.stdin) text += chunk;
for (const resource of JSON.parse(text)) {
  const Model = MODELS[resource.kind];
  if (Model === undefined) throw new Error(`no model of ${resource.kind}`);
  try {
    new Model(resource).validate();
  } catch (error) {
    console.log(JSON.stringify({ kind: resource.kind, name: resource.metadata.name, error: error.message }));
  }
}
