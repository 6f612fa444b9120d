"""From readings to what others get: messages, Home Assistant, MQTT, heatmaps."""
