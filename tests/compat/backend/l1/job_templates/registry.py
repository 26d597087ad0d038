"""The backend's own registry."""


class TemplateRegistry:
    def __init__(self):
        self._templates = {}

    def register(self, template):
        self._templates[template.template_type] = template

    def get(self, template_type):
        return self._templates.get(template_type)

    def list_templates(self):
        return [template.get_metadata() for template in self._templates.values()]


_registry = TemplateRegistry()


def get_template_registry():
    return _registry
